# SPDX-License-Identifier: BSD-3-Clause
"""What shows that the lab can be trusted: laws, null tests, soak, leaks, fuzzing.

Only run and cli import this room.
"""
