# SPDX-License-Identifier: BSD-3-Clause
"""A run from its spec to its results: plan, cells in parallel, the offline and the live cell.

Imports measure and the rooms below it.
"""
