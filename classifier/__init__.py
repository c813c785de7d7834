# SPDX-License-Identifier: BSD-3-Clause
"""Who decides: packets in, verdicts out. Never sees ground truth.

Imports captures, never their ground truth.
"""
