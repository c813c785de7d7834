# SPDX-License-Identifier: BSD-3-Clause
"""What shows that the lab itself can be trusted: laws, null tests, soak, leaks, fuzzing, the
localiser's benchmark.

No room of the product but cli imports this room.
"""
