# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark of the prober: policies drawn from the whole language, and how they are scored.

Imports experiments.probe and the rooms below it.
"""
