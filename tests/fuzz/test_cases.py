# SPDX-License-Identifier: BSD-3-Clause
"""Minimal cases, and everything that fuzzing ever found, carried out again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.__main__ import GUIDED

FOUND = sorted(targets.CRASHES.glob("*")) if targets.CRASHES.is_dir() else []


@pytest.mark.parametrize("path", sorted(targets.SEEDS.iterdir()), ids=lambda path: path.name)
def test_a_minimal_file_is_read_alike_in_batches_and_whole(path: Path) -> None:
    content = path.read_bytes()
    for size in range(4):
        targets.TARGETS["file"](content, size)
        for end in range(1, len(content)):
            targets.TARGETS["file"](content[:end], size)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_once_is_found_no_more(path: Path) -> None:
    targets.one(path.read_bytes())


def test_every_target_has_a_case() -> None:
    names = {targets.NAMES[case[0]] for case in targets.cases()}
    odd = set(targets.NAMES) - names
    assert odd <= {"path"} | {name for name in odd if name.startswith("link type")}


@pytest.mark.parametrize("name", GUIDED)
def test_what_fuzzing_is_guided_by_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


def test_a_target_notices_what_lies_around() -> None:
    with pytest.raises(AssertionError, match="what lies around"):
        targets.alike(lambda place: int(place.b[place.end - len(place.b)]), b"abc", 3)
