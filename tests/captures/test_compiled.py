# SPDX-License-Identifier: BSD-3-Clause
"""The cache of compiled code: what a module's folder depends on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from captures import compiled


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a tree of three modules: testbed.loop uses classifier.reader, which uses its table."""
    texts = {
        "classifier/table.py": "SIZE = 1\n",
        "classifier/reader.py": "import os\nfrom classifier.table import (\n    SIZE,\n)\n",
        "testbed/loop.py": "from classifier import reader as words\n",
        "testbed/other.py": "from captures.nowhere import nothing\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    compiled.imported.cache_clear()
    yield tmp_path
    compiled.imported.cache_clear()


@pytest.mark.usefixtures("lab")
def test_a_module_reaches_what_it_imports_near_and_far() -> None:
    assert compiled.reach("testbed.loop") == [
        "classifier.reader",
        "classifier.table",
        "testbed.loop",
    ]
    assert compiled.reach("testbed.other") == ["testbed.other"]


def test_a_changed_constant_far_away_names_another_folder_and_only_for_who_reaches_it(
    lab: Path,
) -> None:
    def folders() -> list[str]:
        return [compiled.digest_of(compiled.reach(f"testbed.{name}")) for name in ("loop", "other")]

    before = folders()
    (lab / "classifier/table.py").write_text("SIZE = 2\n")
    after = folders()
    assert (before[0] != after[0], before[1] != after[1]) == (True, False)


def test_every_kernel_of_the_lab_reaches_the_modules_it_was_made_of() -> None:
    assert "classifier.verdicts" in compiled.reach("classifier.engine")
    assert "captures.octets" in compiled.reach("testbed.virtual")
    assert "testbed.virtual" not in compiled.reach("classifier.engine")


def test_the_settings_of_the_compiler_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled.digest_of(["classifier.engine"])
    monkeypatch.setattr(compiled.numba.config, "BOUNDSCHECK", 1)
    assert compiled.digest_of(["classifier.engine"]) != before
