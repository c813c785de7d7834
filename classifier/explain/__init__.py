# SPDX-License-Identifier: BSD-3-Clause
"""Why a flow has its verdict: its packets dissected, and the bytes that decided.

Imports path and the rooms below it; the packet path never imports this room.
"""
