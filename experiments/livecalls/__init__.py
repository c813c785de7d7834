# SPDX-License-Identifier: BSD-3-Clause
"""Live calls: real programs call through an operator's middlebox, compared with replay of the same.

Imports testbed.programs, spec, results and measure.
"""
