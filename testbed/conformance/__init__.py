# SPDX-License-Identifier: BSD-3-Clause
"""Scenarios that show each feature of the policy language, and its lint.

Imports replay and the rooms below it.
"""
