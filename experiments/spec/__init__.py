# SPDX-License-Identifier: BSD-3-Clause
"""What is to be measured: specs, the grid of cells, their captures and policies.

Imports jobs and results.
"""
