# SPDX-License-Identifier: BSD-3-Clause
"""The report, built from result files alone.

Imports measure and results.
"""
