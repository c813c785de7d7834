# SPDX-License-Identifier: BSD-3-Clause
"""The localiser's benchmark: rules that are listed, drawn at random or written by others, and the
score.

Imports localise.
"""
