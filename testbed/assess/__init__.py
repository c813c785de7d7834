# SPDX-License-Identifier: BSD-3-Clause
"""Assessment of a call: its verdict, its quality per second, its losses.

Imports replay and the rooms below it.
"""
