# SPDX-License-Identifier: BSD-3-Clause
"""The way of one packet: decode, dispatch by transport, evidence of each protocol, what flows teach
each other.

Imports state, protocols and apps.
"""
