# SPDX-License-Identifier: BSD-3-Clause
"""Changed copies of a call that try to pass a middlebox, and controls that must not.

Imports replay and the rooms below it.
"""
