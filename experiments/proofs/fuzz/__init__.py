# SPDX-License-Identifier: BSD-3-Clause
"""Fuzzing of the parsers and of the packet path with mutated captures.

Imports measure and results.
"""
