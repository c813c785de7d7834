# SPDX-License-Identifier: BSD-3-Clause
"""Templates: what they write works as it stands, and nothing is written over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli import templates
from midcall.experiments.cli.app import app
from midcall.experiments.spec.spec import load

ROOT = Path(__file__).resolve().parents[2]

#: Runs the tests of a file as if its app stood in the source tree.
RUN = """
import runpy
import midcall.classifier.apps
midcall.classifier.apps.__path__.append({folder!r})
held = runpy.run_path({test!r})
tests = [name for name in held if name.startswith("test_")]
assert len(tests) == 3
for name in tests:
    held[name]()
"""


def test_a_new_spec_is_sound(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["new", "spec", "my-study", "-o", str(tmp_path)])
    path = Path(done.stdout.strip())
    assert load(str(path))[0].name == "my-study"
    again = CliRunner().invoke(app, ["new", "spec", "my-study", "-o", str(tmp_path)])
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is there already; nothing was written" in again.stderr


def test_a_new_app_passes_its_own_test_and_the_linter(tmp_path: Path) -> None:
    for folder in ("classifier/apps", "tests/classifier"):
        (tmp_path / folder).mkdir(parents=True)
    made, todo = templates.new_app("myapp", tmp_path)
    assert [path.name for path in made] == ["myapp.py", "test_myapp.py"]
    assert any("on_proprietary" in line for line in todo)
    lint = [sys.executable, "-m", "ruff", "check", "--ignore", "I001"]  # no package is around them
    subprocess.run([*lint, "--config", ROOT / "pyproject.toml", *made], check=True)
    script = tmp_path / "run.py"
    script.write_text(RUN.format(folder=str(made[0].parent), test=str(made[1])))
    place = {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script], check=True, env=os.environ | place)


def test_an_app_that_is_there_or_no_word_or_no_source_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="app 'viber' is there"):
        templates.new_app("viber")
    with pytest.raises(ExperimentError, match="got 'My App', expected"):
        templates.new_app("My App")
    with pytest.raises(ExperimentError, match="not a source tree of Midcall"):
        templates.new_app("myapp", tmp_path)
