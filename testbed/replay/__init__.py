# SPDX-License-Identifier: BSD-3-Clause
"""Replay of a capture in virtual time: send orders, retransmission, and the fate of each packet.

Imports policy, network and middlebox.
"""
