# SPDX-License-Identifier: BSD-3-Clause
"""Capture files as arrays: pcap and pcapng in and out, frames, headers.

Imports jit.
"""
