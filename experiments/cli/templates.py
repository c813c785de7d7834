# SPDX-License-Identifier: BSD-3-Clause
"""Templates to start from: a spec of one's own, an app's fingerprints with their test.

What is written works as it stands: the spec runs, the app's test passes; both are small enough to
be read whole, and say what to change.
"""

from __future__ import annotations

import re
from pathlib import Path

from midcall.errors import ExperimentError
from midcall.locations import ROOT, TEMPLATES

WORD = re.compile("[a-z][a-z0-9]*")
SPEC_NAME = re.compile("[a-z0-9][a-z0-9-]*")


def new_spec(name: str, folder: Path) -> Path:
    """Write a spec that runs as it is; returns its path. Raises ExperimentError."""
    if not SPEC_NAME.fullmatch(name):
        raise ExperimentError(f"name: got {name!r}, expected letters, digits and dashes (my-study)")
    return written(folder / f"{name}.toml", filled("new_spec.toml", name))


def new_app(name: str, root: Path = ROOT) -> tuple[list[Path], list[str]]:
    """Write an app's fingerprint and its test into a source tree.

    Returns the files, and the lines that a person must add elsewhere: an app is heard only once it
    has a number and a place in the order of attempts, which is nothing to guess.
    Raises ExperimentError where there is no source tree, or such an app.
    """
    if not WORD.fullmatch(name):
        raise ExperimentError(f"app: got {name!r}, expected lower-case letters and digits (myapp)")
    if not (root / "classifier" / "apps").is_dir() or not (root / "tests").is_dir():
        raise ExperimentError(
            f"{root}: not a source tree of Midcall; clone the repository, an app is a change to it"
        )
    from midcall.classifier.state.verdicts import APPS

    if name in APPS:
        raise ExperimentError(f"app {name!r} is there: classifier/apps/{name}.py")
    files = {
        root / "classifier" / "apps" / f"{name}.py": "new_app.txt",
        root / "tests" / "classifier" / f"test_{name}.py": "new_app_test.txt",
    }
    made = [written(path, filled(template, name)) for path, template in files.items()]
    return made, [
        f'classifier/state/verdicts.py: "{name}" at the end of APPS, and '
        f"{name.upper()} = {len(APPS)}",
        f"classifier/apps/{name}.py: take {name.upper()} from midcall.classifier.state.verdicts, "
        "drop the line that stands in for it",
        f"classifier/path/udp.py, on_proprietary: found = heard(flow, {name}_message(b, at, end, "
        "size)), where `found` is still 0",
        "a capture that proves it (midcall captures add), then midcall support -o "
        "classifier/support.csv, and make golden; read both diffs",
    ]


def filled(template: str, name: str) -> str:
    """Return a template with the name in its places."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return text.replace("@NAME@", name).replace("@UPPER@", name.upper())


def written(path: Path, text: str) -> Path:
    """Write a new file; raises ExperimentError where one is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ExperimentError(f"{path} is there already; nothing was written") from None
    return path
