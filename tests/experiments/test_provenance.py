# SPDX-License-Identifier: BSD-3-Clause
"""Provenance: digests that change with the code, and facts of the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from midcall.experiments.results import provenance


def test_the_code_digest_changes_with_a_source_but_not_with_added_captures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "HOME", tmp_path)
    source = tmp_path / "captures" / "a.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")

    def digest() -> str:
        provenance.code_digest.cache_clear()
        return provenance.code_digest(("captures",))

    try:
        first = digest()
        (tmp_path / "captures" / "local").mkdir()
        (tmp_path / "captures" / "local" / "catalogue.toml").write_text("x = 1\n")
        assert digest() == first
        source.write_text("x = 2\n")
        assert digest() != first
    finally:
        provenance.code_digest.cache_clear()


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_changed_file_makes_the_state_dirty(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "x")
    clean = provenance.git_state(tmp_path)
    assert clean["dirty"] is False
    assert len(clean["commit"]) == 40
    (tmp_path / "a").write_text("2")
    assert provenance.git_state(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_the_machine_is_told_with_what_timings_depend_on() -> None:
    facts = provenance.machine()
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 2**20
    assert {"cpu", "governor", "kernel", "python"} <= facts.keys()
