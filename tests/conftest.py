# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures shared by all tests: where real captures are, and a cache of their own for the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from midcall.captures.truth.catalogue import Capture

#: Captures of one group that tests of every capture take; MIDCALL_EVERY_CAPTURE=1 takes all.
OF_A_GROUP = 1
ROOT = Path(__file__).resolve().parent.parent


def corpus_folder() -> Path | None:
    """Return the folder that MIDCALL_CORPUS names, or the one beside the project."""
    named = os.environ.get("MIDCALL_CORPUS")
    for folder in (Path(named) if named else None, ROOT.parent / "shared" / "corpus" / "pcaps"):
        if folder is not None and folder.is_dir():
            return folder
    return None


def of_each_group(captures: Iterable[Capture]) -> list[Capture]:
    """Return the smallest captures of each group, for tests that take seconds per capture."""
    held: dict[str, list[Capture]] = {}
    for one in captures:
        held.setdefault(one.group, []).append(one)
    if os.environ.get("MIDCALL_EVERY_CAPTURE"):
        return [one for group in held.values() for one in group]
    few = (sorted(group, key=lambda one: one.bytes)[:OF_A_GROUP] for group in held.values())
    return [one for group in few for one in group]


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Return a folder of real captures; skips where there is none."""
    folder = corpus_folder()
    if folder is None:
        pytest.skip("no real captures here: set MIDCALL_CORPUS to a folder of them")
    return folder


def pytest_configure() -> None:
    """Take SIGINT where a shell that started the tests in its background lets it be ignored.

    What tests start and interrupt would ignore it, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the longest tests as slow ones, and skip live tests where no live network can be made,
    saying why."""
    for item in items:
        if item.get_closest_marker("longest"):
            item.add_marker(pytest.mark.slow)
    live = [item for item in items if item.get_closest_marker("live")]
    if not live:
        return
    from midcall.testbed.live.network.network import missing

    if lacks := missing():
        for item in live:
            item.add_marker(pytest.mark.skip(reason="live: " + "; ".join(lacks)))
