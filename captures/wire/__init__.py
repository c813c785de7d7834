# SPDX-License-Identifier: BSD-3-Clause
"""Encoders of single protocol messages: DNS, DTLS, RTP, SIP, STUN, TLS.

Imports packets. Synthetic captures and tests use it.
"""
