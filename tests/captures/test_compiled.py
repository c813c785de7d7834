# SPDX-License-Identifier: BSD-3-Clause
"""The cache of compiled code: what a module's folder depends on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midcall.captures.jit import code_folders


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a tree of three modules: testbed.loop uses classifier.reader, which uses its table."""
    texts = {
        "midcall/classifier/table.py": "SIZE = 1\n",
        "midcall/classifier/reader.py": "import os\nfrom midcall.classifier.table import (\n"
        "    SIZE,\n)\n",
        "midcall/testbed/loop.py": "from midcall.classifier import reader as words\n",
        "midcall/testbed/other.py": "from midcall.captures.nowhere import nothing\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code_folders, "ROOT", tmp_path)
    code_folders.imported.cache_clear()
    yield tmp_path
    code_folders.imported.cache_clear()


@pytest.mark.usefixtures("lab")
def test_a_module_reaches_what_it_imports_near_and_far() -> None:
    assert code_folders.reach("midcall.testbed.loop") == [
        "midcall.classifier.reader",
        "midcall.classifier.table",
        "midcall.testbed.loop",
    ]
    assert code_folders.reach("midcall.testbed.other") == ["midcall.testbed.other"]


def test_a_changed_constant_far_away_names_another_folder_and_only_for_who_reaches_it(
    lab: Path,
) -> None:
    def folders() -> list[str]:
        return [
            code_folders.digest_of(code_folders.reach(f"midcall.testbed.{name}"))
            for name in ("loop", "other")
        ]

    before = folders()
    (lab / "midcall/classifier/table.py").write_text("SIZE = 2\n")
    after = folders()
    assert (before[0] != after[0], before[1] != after[1]) == (True, False)


def test_every_kernel_of_the_lab_reaches_the_modules_it_was_made_of() -> None:
    assert "midcall.classifier.state.verdicts" in code_folders.reach("midcall.classifier.engine")
    assert "midcall.captures.jit.reads" in code_folders.reach("midcall.testbed.replay.simulator")
    assert "midcall.testbed.replay.simulator" not in code_folders.reach("midcall.classifier.engine")


def test_the_settings_of_the_compiler_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_folders.digest_of(["midcall.classifier.engine"])
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    code_folders.settings.cache_clear()
    assert code_folders.digest_of(["midcall.classifier.engine"]) != before
    code_folders.settings.cache_clear()


def test_the_list_of_folders_is_used_until_a_source_changes(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_folders, "HOME", lab / "midcall")
    monkeypatch.setattr(code_folders, "FOLDERS", ("classifier", "testbed"))
    monkeypatch.setattr(code_folders, "CACHE", lab / "cache")
    monkeypatch.setattr(code_folders, "STARTED", time.time() + 60)

    def place() -> Path:
        for one in (code_folders.stamp, code_folders.code_folder, code_folders.imported):
            one.cache_clear()
        return code_folders.code_folder("midcall.testbed.loop")

    before = place()
    with monkeypatch.context() as patch:
        patch.setattr(code_folders, "digest_of", lambda _modules: "not asked")
        assert place() == before
    (lab / "midcall/classifier/table.py").write_text("SIZE = 2\n")
    after = place()
    for one in (code_folders.stamp, code_folders.code_folder):
        one.cache_clear()
    assert after != before
    for file in (lab / "cache").iterdir():
        file.write_text("damaged")
    assert place() == after
    monkeypatch.setattr(code_folders, "STARTED", time.time() - 60)  # so a source was edited since
    assert place() == after.with_name(f"{after.name}-{os.getpid()}")
    for one in (code_folders.stamp, code_folders.code_folder):
        one.cache_clear()


def test_code_of_old_versions_is_removed_unless_it_is_fresh_or_still_named(tmp_path: Path) -> None:
    month_ago = time.time() - 30 * 86_400
    for number in range(code_folders.VERSIONS + 2):
        place = tmp_path / f"digests-{number}.json"
        place.write_text(json.dumps({"own": f"own-{number}", "shared": "shared-1"}))
        os.utime(place, (month_ago + number, month_ago + number))
        (tmp_path / f"own-{number}").mkdir()
        os.utime(tmp_path / f"own-{number}", (month_ago, month_ago))
    for name, age in (("shared-1", month_ago), ("nobody-old", month_ago), ("nobody-new", None)):
        (tmp_path / name).mkdir()
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    code_folders.prune(tmp_path)
    newest = range(2, code_folders.VERSIONS + 2)
    assert {one.name for one in tmp_path.iterdir()} == {
        *(f"own-{number}" for number in newest),
        *(f"digests-{number}.json" for number in newest),
        "shared-1",
        "nobody-new",
    }
