# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the lab itself: laws of verdicts, null tests, soak, leaks, fuzzing.

Only run and cli import this room.
"""
