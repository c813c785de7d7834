# SPDX-License-Identifier: BSD-3-Clause
"""What the classifier says of every capture is what was reviewed (`make golden` writes it anew)."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

import pytest

from midcall.captures.fetch.fetch import obtain
from midcall.captures.truth.catalogue import Capture, home_name, load
from midcall.captures.truth.paths import homes, samples

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a bare `pytest` does not put it there, `python -m pytest` does
    sys.path.insert(0, str(ROOT))

from tests import golden  # noqa: E402

CATALOGUE = load(local=False)
OURS = [one for one in CATALOGUE.captures if one.ours]
REAL = [one for one in CATALOGUE.captures if not one.ours]
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]+:[0-9a-f:]+:[0-9a-f]+", re.IGNORECASE)


@pytest.fixture(scope="session")
def paths(corpus: Path) -> dict[str, Path]:
    """Return the real captures that are here, by sha256."""
    return obtain(CATALOGUE, corpus=corpus, offline=True).paths


def compare(capture: Capture, path: Path) -> None:
    """Fail with a diff where a capture's text is not the golden one."""
    file = golden.golden_file(capture)
    assert file.exists(), f"{capture.name} has no golden text: run `make golden`"
    wanted, got = file.read_text(encoding="utf-8"), golden.text(path)
    diff = difflib.unified_diff(
        wanted.splitlines(), got.splitlines(), f"golden/{file.name}", "now", lineterm="", n=1
    )
    assert got == wanted, (
        "the verdicts changed; if they are better, run `make golden` and commit the diff:\n"
        + "\n".join(diff)
    )


@pytest.mark.parametrize("capture", OURS, ids=lambda one: one.name)
def test_verdicts_of_a_committed_capture_are_those_that_were_reviewed(capture: Capture) -> None:
    home = next(one for one in homes(False) if one.name == home_name(capture))
    compare(capture, home.folder / capture.file)


@pytest.mark.corpus
@pytest.mark.parametrize("capture", REAL, ids=lambda one: one.name)
def test_verdicts_of_a_real_capture_are_those_that_were_reviewed(
    capture: Capture, paths: dict[str, Path]
) -> None:
    if capture.sha256 not in paths:
        pytest.skip(f"{capture.name} is not on this machine")
    compare(capture, paths[capture.sha256])


def test_golden_texts_are_small_and_each_is_of_a_capture() -> None:
    files = list(golden.FOLDER.glob("*"))
    assert {file.stem for file in files} == {one.name for one in CATALOGUE.captures}
    assert sum(file.stat().st_size for file in files) < 400_000


def test_no_address_is_in_a_golden_text() -> None:
    found = [
        f"{file.name}: {match}"
        for file in golden.FOLDER.glob("*")
        for match in ADDRESS.findall(file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_flows_that_say_nothing_are_counted_in_one_line() -> None:
    text = golden.text(samples().folder / "sample-dns.pcap")
    assert text.splitlines() == [
        "# packets 80, flows 21",
        f"# {golden.HEAD}",
        "# 21 udp not-call: DNS",
    ]
