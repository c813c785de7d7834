# SPDX-License-Identifier: BSD-3-Clause
"""A middlebox asked from the outside: one probe, and what its answer was.

Imports conformance, replay and the rooms below it.
"""
