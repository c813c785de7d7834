# SPDX-License-Identifier: BSD-3-Clause
"""Rewritten copies of a call: disguises that try to pass a middlebox, and control arms.

Imports replay and the rooms below it.
"""
