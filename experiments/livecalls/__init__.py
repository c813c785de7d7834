# SPDX-License-Identifier: BSD-3-Clause
"""Live calls: real programs call while an operator's middlebox acts, beside replay of the same.

Imports testbed.programs, spec, results and measure.
"""
