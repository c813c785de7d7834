# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: how well flows are named under disturbance, beside baselines and peers.

Imports report, cells and the rooms below them.
"""
