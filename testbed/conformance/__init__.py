# SPDX-License-Identifier: BSD-3-Clause
"""Scenarios that show each feature of the policy language, and which features they cover.

Imports middlebox and the rooms below it.
"""
