# SPDX-License-Identifier: BSD-3-Clause
"""Midcall: replay captures of real calls through an emulated operator middlebox.

The four folders are captures (what is replayed, and its truth), classifier (the packet path),
testbed (the middlebox, the network and the callers) and experiments (measurement and reports).
"""
