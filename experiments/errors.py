# SPDX-License-Identifier: BSD-3-Clause
"""The one exception of this package; its text is the whole message for the user."""

from __future__ import annotations


class ExperimentError(Exception):
    """A problem with what was given to experiments, told in one sentence that names the mend."""
