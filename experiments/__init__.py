# SPDX-License-Identifier: BSD-3-Clause
"""How it is measured: specs, runs, statistics and the report.

Imports testbed, classifier and captures.
"""
