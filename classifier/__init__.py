# SPDX-License-Identifier: BSD-3-Clause
"""The classifier: packets in, verdicts out. It never uses ground truth.

Imports captures, never their ground truth.
"""
