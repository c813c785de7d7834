# SPDX-License-Identifier: BSD-3-Clause
"""The exceptions whose text is the whole message for the user, one for each folder.

The text is one sentence: what is wrong, and what the user can do about it.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from midcall.locations import ROOT


class CaptureError(Exception):
    """A problem with a capture, its truth or its download."""


class ClassifierError(Exception):
    """A problem with what the classifier was given."""


class TestbedError(Exception):
    """A problem with a policy, a replay or a program of the lab."""

    __test__ = False  # the name starts with "Test": pytest would collect it


class ExperimentError(Exception):
    """A problem with a spec, a run or a command's arguments."""


def describe(error: Exception) -> str:
    """Return an unforeseen error as one sentence: what, where, in which capture."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{ROOT}{os.sep}" in frame.filename]
    spot = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    notes = "; ".join(getattr(error, "__notes__", []))
    where = f" [{notes}]" if notes else ""
    return f"{type(error).__name__}: {error}{spot}{where}".replace("\n", " ")
