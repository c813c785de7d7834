# SPDX-License-Identifier: BSD-3-Clause
"""A middlebox probed from the outside: a probe, and whether the box blocks it.

Imports conformance, replay and the rooms below it.
"""
