# SPDX-License-Identifier: BSD-3-Clause
"""The state of the classifier: flow records, endpoints, evidence, verdicts and their names.

Imports only captures.
"""
