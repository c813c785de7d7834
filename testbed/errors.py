# SPDX-License-Identifier: BSD-3-Clause
"""The one exception of this package; its text is the whole message for the user."""

from __future__ import annotations


class TestbedError(Exception):
    """A problem with what was given to testbed, told in one sentence that names the mend."""

    __test__ = False  # the name starts with "Test": pytest would collect it
