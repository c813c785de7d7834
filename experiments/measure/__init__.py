# SPDX-License-Identifier: BSD-3-Clause
"""From rows to figures: metrics, intervals, collateral, summary, and their formatting.

Imports spec and results.
"""
