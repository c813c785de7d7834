# SPDX-License-Identifier: BSD-3-Clause
"""The report, made from result files alone.

Imports measure and results.
"""
