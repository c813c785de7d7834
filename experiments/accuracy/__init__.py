# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: accuracy on disturbed captures, compared with baselines and peers.

Imports report, cells and the rooms below them.
"""
