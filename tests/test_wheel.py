# SPDX-License-Identifier: BSD-3-Clause
"""The wheel: what `pip install .` puts on a machine is everything that the code reads there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("captures", "classifier", "testbed", "experiments")
FILES = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"


def ignored(folder: str, names: list[str]) -> set[str]:
    """Return what of a folder is no part of the source: caches, and the user's own captures."""
    mine = {"local"} if Path(folder).name == "captures" else set()
    return {name for name in names if name == "__pycache__" or name in mine}


def sources(root: Path) -> set[str]:
    """Return the name in the wheel of every file of the package."""
    parts = {
        "midcall/" + path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file()
    }
    return parts | {f"midcall/{path.name}" for path in (root / "midcall").glob("*.*")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Build the wheel from a copy of the sources; return it and what the sources were."""
    pytest.importorskip("setuptools", "77", reason="setuptools 77 or newer builds the wheel")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    shutil.copytree(ROOT / "midcall", copy / "midcall", symlinks=True, ignore=ignored)
    known = sources(copy)
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl")), known


def test_every_file_of_the_packages_is_in_the_wheel(built: tuple[Path, set[str]]) -> None:
    wheel, known = built
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == known


def test_an_installed_midcall_finds_its_data_and_names_a_call(
    built: tuple[Path, set[str]], tmp_path: Path
) -> None:
    wheel, _ = built
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    lines = (
        "from midcall.captures.truth.paths import local",
        "from midcall.captures.truth.catalogue import load",
        "from midcall.classifier.statistical.inference import shipped",
        "from midcall.experiments.report.html import environment",
        "from midcall.experiments.spec.spec import load as spec",
        "from midcall.experiments.spec.grid import cells, load_operators",
        "morocco, _ = spec('morocco-2016')",
        "assert cells(morocco, load_operators(morocco)) and len(shipped())",
        "environment().get_template('report.html')",
        "print(len(load().captures), local().folder)",
    )
    home = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**home, "PYTHONPATH": str(tmp_path / "site"), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, folder = done.stdout.split(maxsplit=1)
    assert int(count) > 100
    assert Path(folder.strip()) == tmp_path / "data" / "midcall" / "captures"
