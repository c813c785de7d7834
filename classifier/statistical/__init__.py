# SPDX-License-Identifier: BSD-3-Clause
"""The early model: its features become a probability in the packet path, and how it is trained.

Imports state.
"""
