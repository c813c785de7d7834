# SPDX-License-Identifier: BSD-3-Clause
"""What is to be measured: specs, the grid of cells, the captures and policies they name.

Imports no other room of experiments.
"""
