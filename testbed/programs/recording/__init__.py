# SPDX-License-Identifier: BSD-3-Clause
"""Recording: captures of real programs, and the truth of each flow from what the programs did.

Imports programs and live.
"""
