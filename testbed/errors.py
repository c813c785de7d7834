# SPDX-License-Identifier: BSD-3-Clause
"""The one exception that testbed raises for what a user can mend; its text is the whole message."""

from __future__ import annotations


class TestbedError(Exception):
    """A problem with what was given to testbed, told in one sentence that names the mend."""
