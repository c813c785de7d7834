# SPDX-License-Identifier: BSD-3-Clause
"""The one exception that captures raises for what a user can mend; its text is the whole message."""

from __future__ import annotations


class CaptureError(Exception):
    """A problem with what was given to captures, told in one sentence that names the mend."""
