# SPDX-License-Identifier: BSD-3-Clause
"""Packages are locked to versions and sums, and set-up refuses what has another sum."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from midcall.locations import ROOT

LOCKS = sorted((ROOT / "locks").glob("*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(text: str) -> dict[str, str]:
    """Return name -> version of every line that pins one, as packages compare names."""
    found = re.findall(r"^([\w.-]+)==([\w.!+-]+)", text, re.MULTILINE)
    return {re.sub("[._]", "-", name).lower(): version for name, version in found}


def test_every_locked_package_has_a_version_and_sums_and_no_address() -> None:
    for lock in LOCKS:
        for entry in lock.read_text(encoding="utf-8").replace("\\\n", "").splitlines():
            pinned = (
                r"[a-z\d.-]+(\[[a-z,]+\])?==[\w.!+-]+( ; [^#]+?)?( +--hash=sha256:[\da-f]{64})+"
            )
            assert re.fullmatch(pinned, entry), (lock.name, entry[:80])


def test_locks_agree_with_the_constraints_and_cover_what_is_needed() -> None:
    held = {lock.stem: pins(lock.read_text(encoding="utf-8")) for lock in LOCKS}
    assert set(held) == {"core", *EXTRAS}, "make lock"
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    for name, packages in held.items():
        other = {
            one: version
            for one, version in packages.items()
            if versions.get(one, version) != version
        }
        assert other == {}, f"{name}: other than constraints.txt says; make lock"
        needs = PROJECT["dependencies"] + EXTRAS.get(name, [])
        wanted = {re.split(r"[\[<>=!~; ]", word)[0].lower() for word in needs}
        assert wanted <= set(packages) | set(held["core"]) | set(held["dev"]), f"{name}: make lock"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_set_up_refuses_a_package_with_another_sum(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("tiny.py", "")
        made.writestr(
            "tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n"
        )
        made.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("tiny-1.dist-info/RECORD", "")
    venv = tmp_path / "venv"
    words = [
        "make",
        f"{venv}/packages",
        f"VENV={venv}",
        f"LOCKS={tmp_path}",
        f"PYTHON={sys.executable}",
    ]
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    (tmp_path / "dev.lock").write_text("")
    sums = {"right": hashlib.sha256(wheel.read_bytes()).hexdigest(), "wrong": "0" * 64}
    for name in ("wrong", "right"):
        (tmp_path / "core.lock").write_text(f"tiny==1 --hash=sha256:{sums[name]}\n")
        done = subprocess.run(
            words, cwd=ROOT, env=offline, capture_output=True, text=True, check=False
        )
        assert done.returncode == (2 if name == "wrong" else 0), done.stderr
        assert ("what was downloaded is not what was locked" in done.stdout) == (name == "wrong")
        assert bool(list(venv.rglob("tiny.py"))) == (name == "right")
