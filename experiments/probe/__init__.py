# SPDX-License-Identifier: BSD-3-Clause
"""The prober: names a middlebox's whole rule from both ends of a line. Start reading at search.py.

Imports localise, testbed.probing and the rooms below it.
"""
