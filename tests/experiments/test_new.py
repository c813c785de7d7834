# SPDX-License-Identifier: BSD-3-Clause
"""`midcall new`: each template is played to its end, and nothing is written over."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli import templates
from midcall.experiments.cli.app import app
from midcall.experiments.spec.spec import load
from midcall.locations import ROOT

FOLDERS = ("captures", "classifier", "testbed", "experiments", "midcall", "tests")


def checked(test: Path, folder: Path) -> str:
    """Run a test file in plain Python with a source tree; return "" where it passes, else why."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def changed(path: Path, pattern: str, new: str) -> None:
    """Replace the one match of a pattern in a file."""
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1)
    assert count == 1, f"{path}: no {pattern}"
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the source tree."""
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "local", "golden"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_new_spec_is_sound(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["new", "spec", "my-study", "-o", str(tmp_path)])
    path = Path(done.stdout.strip())
    assert load(str(path))[0].name == "my-study"
    again = CliRunner().invoke(app, ["new", "spec", "my-study", "-o", str(tmp_path)])
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is there already; nothing was written" in again.stderr


@pytest.mark.slow
def test_a_new_app_is_led_to_its_end(tree: Path) -> None:
    (_, test), steps = templates.new_app("myapp", tree)
    assert any("midcall/apps.py" in line for line in steps)
    assert "step 1" in checked(test, tree)
    changed(
        tree / "midcall" / "apps.py", r'(    "other-rtc": "[^"]*",\n)', r'\1    "myapp": "MyApp",\n'
    )
    assert "step 2" in checked(test, tree)
    path = tree / "classifier" / "path" / "udp.py"
    changed(
        path,
        r"( +\w+ = \w+ or .*)wechat_message\([^()]*\)(.*\n)",
        r"\g<0>\1myapp_message(b, at, end, size)\2",
    )
    changed(
        path,
        r"from midcall\.classifier\.apps\.wechat import .*\n",
        r"\g<0>from midcall.classifier.apps.myapp import myapp_message\n",
    )
    assert checked(test, tree) == ""


@pytest.mark.slow
def test_a_new_act_is_led_to_its_end(tree: Path) -> None:
    (test,), _ = templates.new_action("discard", tree)
    testbed = tree / "testbed"
    assert "step 1" in checked(test, tree)
    changed(
        testbed / "policy" / "language.py", r'(Act = Literal\[[^]]*"censor",)', r'\1 "discard",'
    )
    assert "step 2" in checked(test, tree)
    changed(
        testbed / "conformance" / "scenarios.py",
        r'(    Scenario\(\n        "act\.)drop("(?:.|\n)*?act = ")drop("(?:.|\n)*?\n    \),\n)',
        r"\g<0>\1discard\2discard\3",
    )
    assert "step 3" in checked(test, tree)
    changed(
        testbed / "conformance" / "coverage.py",
        r'    \("media alone dropped"',
        r'    ("discarded", ("act.discard",)),\n\g<0>',
    )
    assert "step 4" in checked(test, tree)
    changed(
        testbed / "middlebox" / "rule_table.py",
        r'CENSOR = ACTS\.index\("censor"\)\n',
        r'\g<0>DISCARD = ACTS.index("discard")\n',
    )
    path = testbed / "middlebox" / "decide.py"
    changed(path, r"(?<=\n)    DELAY,\n|(?<=\n)    DROP,\n", r"    DISCARD,\n\g<0>")
    changed(path, r"if act in \(DROP, STALL, CENSOR\)", "if act in (DROP, STALL, CENSOR, DISCARD)")
    assert checked(test, tree) == ""


def test_a_new_policy_is_led_to_its_end(tmp_path: Path) -> None:
    (toml, test), steps = templates.new_policy("my-operator", tmp_path)
    assert any("policy check" in line for line in steps)
    assert "replace what these lines of my-operator.toml say" in checked(test, ROOT)
    toml.write_text(toml.read_text(encoding="utf-8").replace("REPLACE", "known"), encoding="utf-8")
    assert checked(test, ROOT) == ""
    done = CliRunner().invoke(app, ["policy", "check", str(toml)])
    assert done.exit_code == 0, done.output


def test_a_new_censor_is_led_to_its_end(tmp_path: Path) -> None:
    (censor, toml, test), _ = templates.new_censor("my-censor", tmp_path)
    assert "return DROP in my-censor.censor" in checked(test, ROOT)
    changed(censor, "return PASS", "return DROP")
    done = CliRunner().invoke(app, ["policy", "check", str(toml)])
    assert done.exit_code == 0, done.output
    assert checked(test, ROOT) == ""


def test_what_exists_or_is_no_name_or_no_source_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="app 'viber' exists"):
        templates.new_app("viber")
    with pytest.raises(ExperimentError, match="act 'drop' exists"):
        templates.new_action("drop")
    with pytest.raises(ExperimentError, match="got 'My App', expected"):
        templates.new_app("My App")
    with pytest.raises(ExperimentError, match="not a source tree of Midcall"):
        templates.new_app("myapp", tmp_path)
