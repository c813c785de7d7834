# SPDX-License-Identifier: BSD-3-Clause
"""The localiser's benchmark: listed, random and third-party rules, and the score.

Imports localise.
"""
