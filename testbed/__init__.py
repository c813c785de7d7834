# SPDX-License-Identifier: BSD-3-Clause
"""Where captures are replayed: the emulated operator network.

Imports classifier and captures.
"""
