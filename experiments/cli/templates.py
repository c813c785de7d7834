# SPDX-License-Identifier: BSD-3-Clause
"""Templates to start from: a spec, an operator, a censor, an app, an act.

A new spec runs as it is. Everything else comes with a test that fails until it is complete, and
whose message names the next step.
"""

from __future__ import annotations

import re
from pathlib import Path

from midcall.errors import ExperimentError
from midcall.locations import ROOT, TEMPLATES

WORD = re.compile("[a-z][a-z0-9]*")
NAME = re.compile("[a-z0-9][a-z0-9-]*")

#: Files that were written, and the next steps as lines for a person.
Made = tuple[list[Path], list[str]]


def new_spec(name: str, folder: Path) -> Path:
    """Write a spec that runs as it is; returns its path. Raises ExperimentError."""
    checked(name, NAME, "letters, digits and dashes (my-study)")
    return written(folder / f"{name}.toml", filled("new_spec.toml", name))


def new_policy(name: str, folder: Path) -> Made:
    """Write an operator's file and its test. Raises ExperimentError."""
    checked(name, NAME, "letters, digits and dashes (my-operator)")
    made = pair(name, folder, "new_policy.toml", "new_policy_test.txt")
    toml, test = made
    return made, [
        f"pytest -x {test}: its failure lists the lines to replace",
        f"midcall policy check {toml}",
        f"midcall replay CAPTURE --policy {toml}/first",
    ]


def new_censor(name: str, folder: Path) -> Made:
    """Write a censor in Python, a policy that asks it, and a test. Raises ExperimentError."""
    checked(name, NAME, "letters, digits and dashes (my-censor)")
    made = pair(name, folder, "new_censor.toml", "new_censor_test.txt")
    made.insert(0, written(folder / f"{name}.censor", filled("new_censor.txt", name)))
    return made, [
        f"pytest -x {made[-1]}: it fails until {name}.censor drops packets of a call",
        f"midcall policy check {made[1]}",
    ]


def pair(name: str, folder: Path, toml: str, test: str) -> list[Path]:
    """Write a policy and its test from two templates; returns both paths."""
    word = name.replace("-", "_")
    return [
        written(folder / f"{name}.toml", filled(toml, name)),
        written(folder / f"test_{word}.py", filled(test, name)),
    ]


def new_app(name: str, root: Path = ROOT) -> Made:
    """Write an app's fingerprint and its test into a source tree.

    Returns the files, and the steps that a person must take elsewhere: the app's number and its
    place in the order of attempts. The test fails with the next step until all are taken.
    Raises ExperimentError where there is no source tree, or where the app exists.
    """
    from midcall.apps import APPS

    checked(name, WORD, "lower-case letters and digits (myapp)")
    source_tree(root, "an app")
    if name in APPS:
        raise ExperimentError(f"app {name!r} exists: classifier/apps/{name}.py")
    files = {
        root / "classifier" / "apps" / f"{name}.py": "new_app.txt",
        root / "tests" / "classifier" / f"test_{name}.py": "new_app_test.txt",
    }
    made = [written(path, filled(template, name)) for path, template in files.items()]
    return made, [
        f'midcall/apps.py: add "{name}" and its written name at the end of WRITTEN',
        f"classifier/path/udp.py, on_proprietary: call {name}_message(b, at, end, size), where "
        "`found` is still 0",
        f"pytest -x {made[1].relative_to(root)}: each failure names the next step",
        "midcall captures add a capture that proves it, then midcall support -o "
        "classifier/support.csv, and make golden; read both diffs",
    ]


def new_action(name: str, root: Path = ROOT) -> Made:
    """Write the test of a new act of the policy language into a source tree.

    The test fails with the next step until all are taken. Raises ExperimentError where there is no
    source tree, or where the act exists.
    """
    from midcall.testbed.policy.language import ACTS

    checked(name, NAME, "letters, digits and dashes (my-act)")
    source_tree(root, "an act")
    if name in ACTS:
        raise ExperimentError(f"act {name!r} exists: testbed/policy/language.py")
    word = name.replace("-", "_")
    path = root / "tests" / "testbed" / f"test_act_{word}.py"
    made = written(path, filled("new_action_test.txt", name))
    return [made], [f"pytest -x {made.relative_to(root)}: each failure names the next step"]


def checked(name: str, pattern: re.Pattern[str], expected: str) -> None:
    """Raise ExperimentError for a name that does not match a pattern."""
    if not pattern.fullmatch(name):
        raise ExperimentError(f"name: got {name!r}, expected {expected}")


def source_tree(root: Path, what: str) -> None:
    """Raise ExperimentError where a folder is no source tree of Midcall."""
    if not (root / "classifier" / "apps").is_dir() or not (root / "tests").is_dir():
        raise ExperimentError(
            f"{root}: not a source tree of Midcall; clone the repository, {what} is a change to it"
        )


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
