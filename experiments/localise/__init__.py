# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: finds by what a black box decides, from its answers alone. Start reading at
search.py.

Imports testbed.probing, spec, results and measure.
"""
