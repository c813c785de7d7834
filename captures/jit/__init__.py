# SPDX-License-Identifier: BSD-3-Clause
"""The compiler of the packet path: the decorator, the linker, readers of bytes.

Imports nothing of the lab but midcall.locations.
"""
