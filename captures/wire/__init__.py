# SPDX-License-Identifier: GPL-2.0-or-later
"""Encoders of single protocol messages: DNS, DTLS, RTP, SIP, STUN, TLS.

Imports nothing of the lab but packets; shared by synthetic captures and tests.
"""
