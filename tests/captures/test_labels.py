# SPDX-License-Identifier: BSD-3-Clause
"""Labels: keyed by first frame, strict, and true to the captures they describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.headers import flows
from midcall.captures.packets.pcap import read
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.labels import Label, labels, read_labels, write_labels
from midcall.errors import CaptureError

HEAD = "frame,proto,packets,app,role,call,confidence,evidence\n"


def test_a_written_file_reads_back_in_order_of_frame(tmp_path: Path) -> None:
    rows = [
        Label(9, "udp", 3, "viber", "media", "c", "high", 'with, comma and "quote"'),
        Label(2, "tcp", 1, "none", "other", "", "low"),
    ]
    write_labels(tmp_path / "x.csv", rows)
    assert read_labels(tmp_path / "x.csv") == sorted(rows)


def test_every_problem_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        HEAD + "0,udp,3,viber,media,c,high,e\n2,udp,x,vibre,medai,c,sure,e\n3,udp\n"
        "4,udp,1,none,other,,high,\n4,udp,1,none,other,,high,\n"
    )
    with pytest.raises(CaptureError) as caught:
        read_labels(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: line 2: frame: got '0', expected a number from 1"
    assert lines[1] == f"{path}: line 3: packets: got 'x', expected a number from 1"
    assert lines[2].endswith("other-rtc; did you mean viber?")
    assert lines[3] == (
        f"{path}: line 3: role: got 'medai', expected one of media, setup, control, messaging, "
        "other, unknown; did you mean media?"
    )
    assert lines[4] == f"{path}: line 3: confidence: got 'sure', expected one of high, medium, low"
    assert lines[5] == f"{path}: line 4: got 2 columns, expected 8"
    assert lines[6] == f"{path}: line 6: frame 4 is labelled twice, first in line 5"
    assert len(lines) == 7


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("frame,app\n")
    expected = f"{path}: line 1: got the columns frame,app, expected {HEAD.strip()}"
    with pytest.raises(CaptureError) as caught:
        read_labels(path)
    assert str(caught.value) == expected


def test_a_capture_without_flow_truth_has_no_labels() -> None:
    assert labels("0" * 64) == []


@pytest.mark.parametrize(
    ("role", "confidence", "scored"),
    [("media", "high", True), ("other", "medium", True), ("media", "low", False),
     ("unknown", "high", False)],
)  # fmt: skip
def test_only_decidable_and_sure_labels_are_scored(
    role: str, confidence: str, scored: bool
) -> None:
    assert Label(1, "udp", 1, "viber", role, "", confidence).scored is scored


@pytest.mark.corpus
def test_every_label_names_a_flow_of_its_capture_by_first_frame_and_size(
    corpus: Path, tmp_path: Path
) -> None:
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus, cache=tmp_path, offline=True).paths
    checked = 0
    for one in catalogue.captures:
        rows = [] if one.synthetic or one.packets > 5000 else labels(one.sha256)
        if rows and one.sha256 in paths:
            by_frame = {flow.frame: flow for flow in flows(read(paths[one.sha256]))}
            for row in rows:
                flow = by_frame[row.frame]
                assert (flow.proto, flow.packets) == (row.proto, row.packets), (one.name, row)
                checked += 1
    assert checked > 0
