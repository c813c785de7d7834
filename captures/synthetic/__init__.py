# SPDX-License-Identifier: GPL-2.0-or-later
"""Crafted captures: calls and innocent traffic made by this project, true by construction.

Every generator here writes both the packets and their truth, so no classifier's opinion enters.
All of it is synthetic and flagged so. This package alone imports scapy, hence its own licence.
"""
