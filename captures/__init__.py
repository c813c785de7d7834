# SPDX-License-Identifier: BSD-3-Clause
"""What is replayed, and its truth: packets, catalogue, labels, calls, download.

Imports nothing of the other folders.
"""
