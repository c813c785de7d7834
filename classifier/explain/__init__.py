# SPDX-License-Identifier: BSD-3-Clause
"""Why a flow has its verdict: the packets of a flow dissected, and the bytes that decided.

Imports the engine and everything below it; the packet path never imports this room.
"""
