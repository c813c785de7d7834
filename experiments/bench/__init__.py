# SPDX-License-Identifier: BSD-3-Clause
"""The live bench: how fast, how long, and whether anything is left behind.

Imports testbed.live, measure and results.
"""
