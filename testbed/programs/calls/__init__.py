# SPDX-License-Identifier: BSD-3-Clause
"""Callers: real programs that make real calls between the two ends of a live network.

Imports testbed.live.
"""
