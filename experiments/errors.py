# SPDX-License-Identifier: BSD-3-Clause
"""The one exception of this package; its text is the whole message for the user."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from experiments.provenance import ROOT


class ExperimentError(Exception):
    """A problem with what was given to experiments, told in one sentence that names the mend."""


def told(error: Exception) -> str:
    """Return an unforeseen error as one sentence: what, where, in which capture."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{ROOT}{os.sep}" in frame.filename]
    spot = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    notes = "; ".join(getattr(error, "__notes__", []))
    where = f" [{notes}]" if notes else ""
    return f"{type(error).__name__}: {error}{spot}{where}".replace("\n", " ")
