# SPDX-License-Identifier: BSD-3-Clause
"""Captures and their ground truth: packets, catalogue, labels, calls, download.

Imports nothing of the other folders.
"""
