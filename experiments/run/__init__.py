# SPDX-License-Identifier: BSD-3-Clause
"""A run from its spec to its results and report: its steps and their order.

Imports every room but cli.
"""
