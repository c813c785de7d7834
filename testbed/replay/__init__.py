# SPDX-License-Identifier: BSD-3-Clause
"""A capture replayed in virtual time: who sends what when, retransmission, and each packet's fate.

Imports policy, network and middlebox.
"""
