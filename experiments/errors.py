# SPDX-License-Identifier: BSD-3-Clause
"""The one exception that experiments raises for what a user can mend; its text is the whole message."""

from __future__ import annotations


class ExperimentError(Exception):
    """A problem with what was given to experiments, told in one sentence that names the mend."""
