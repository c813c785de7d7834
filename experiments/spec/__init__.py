# SPDX-License-Identifier: BSD-3-Clause
"""What a run measures: specs, the grid of cells, their captures and policies.

Imports jobs and results.
"""
