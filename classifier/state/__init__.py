# SPDX-License-Identifier: BSD-3-Clause
"""What the classifier keeps: flow records, endpoints, evidence, verdicts and their names.

Imports only captures.
"""
