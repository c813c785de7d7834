# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: what a box that can only be asked decides by. Start reading at search.py.

Imports testbed.probing, spec, results and measure.
"""
