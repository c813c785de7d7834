# SPDX-License-Identifier: BSD-3-Clause
"""The cache of compiled code: what a module's folder depends on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from midcall.captures.jit import kernel


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
    monkeypatch.setattr(kernel, "ROOT", tmp_path)
    kernel.imported.cache_clear()
    yield tmp_path
    kernel.imported.cache_clear()


@pytest.mark.usefixtures("lab")
def test_a_module_reaches_what_it_imports_near_and_far() -> None:
    assert kernel.reach("midcall.testbed.loop") == [
        "midcall.classifier.reader",
        "midcall.classifier.table",
        "midcall.testbed.loop",
    ]
    assert kernel.reach("midcall.testbed.other") == ["midcall.testbed.other"]


def test_a_changed_constant_far_away_names_another_folder_and_only_for_who_reaches_it(
    lab: Path,
) -> None:
    def folders() -> list[str]:
        return [
            kernel.digest_of(kernel.reach(f"midcall.testbed.{name}")) for name in ("loop", "other")
        ]

    before = folders()
    (lab / "midcall/classifier/table.py").write_text("SIZE = 2\n")
    after = folders()
    assert (before[0] != after[0], before[1] != after[1]) == (True, False)


def test_every_kernel_of_the_lab_reaches_the_modules_it_was_made_of() -> None:
    assert "midcall.classifier.state.verdicts" in kernel.reach("midcall.classifier.engine")
    assert "midcall.captures.jit.reads" in kernel.reach("midcall.testbed.replay.simulator")
    assert "midcall.testbed.replay.simulator" not in kernel.reach("midcall.classifier.engine")


def test_the_settings_of_the_compiler_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernel.digest_of(["midcall.classifier.engine"])
    monkeypatch.setattr(kernel.numba.config, "BOUNDSCHECK", 1)
    assert kernel.digest_of(["midcall.classifier.engine"]) != before
