# SPDX-License-Identifier: BSD-3-Clause
"""A run from its spec to its results and report: what is played, in which order.

Imports every room but cli.
"""
