# SPDX-License-Identifier: BSD-3-Clause
"""The emulated operator network, in which captures are replayed.

Imports classifier and captures.
"""
