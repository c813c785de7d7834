# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: how well the box names flows under disturbance, beside baselines and peers."""
