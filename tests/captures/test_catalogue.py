# SPDX-License-Identifier: BSD-3-Clause
"""The catalogue: what is committed is sound, and every problem of a bad one is reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.captures.truth.catalogue import (
    Capture,
    CatalogueFile,
    Source,
    addresses_in,
    check,
    group_problems,
    load,
    write_catalogue,
)
from midcall.captures.truth.strict_toml import read_table
from midcall.errors import CaptureError

SUM = "ab" * 32


def capture(**changes: object) -> Capture:
    """Return a sound capture with some keys changed."""
    keys: dict[str, object] = {
        "name": "mine", "file": "mine.pcap", "sha256": SUM, "bytes": 100, "packets": 10,
        "role": "call", "app": "viber", "kind": "audio", "media": True, "access": "wifi",
        "group": "g1", "licence": "private",
    }  # fmt: skip
    return Capture.model_validate(keys | changes)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that stands for the user's."""
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path))
    return tmp_path


def user_table(home: Path, text: str) -> None:
    (home / "catalogue.toml").write_text(text)


TABLE = f"""
[[capture]]
name = "mine"
file = "mine.pcap"
sha256 = "{SUM}"
bytes = 100
packets = 10
role = "call"
app = "viber"
kind = "audio"
media = true
access = "wifi"
group = "g1"
licence = "private"
"""


def test_the_committed_catalogue_labels_and_calls_are_sound() -> None:
    assert check(local=False) == []


def test_the_committed_catalogue_holds_the_292_captures_and_no_address() -> None:
    real = [one for one in load(local=False).captures if not one.ours]
    assert len(real) == 292
    assert all(not addresses_in(f"{one.notes} {one.content}") for one in real)
    assert all(one.licence and one.sources and one.group for one in real)


def test_captures_of_the_users_table_are_marked_as_added(home: Path) -> None:
    user_table(home, TABLE)
    assert [one.name for one in load().captures if one.added] == ["mine"]
    assert "mine" not in [one.name for one in load(local=False).captures]


def test_every_problem_of_a_table_is_told_at_once(home: Path) -> None:
    bad = TABLE.replace('"wifi"', '"wfi"').replace('"viber"', '"vibre"')
    user_table(home, bad.replace("packets = 10", 'pakets = 10\npackets = "ten"'))
    with pytest.raises(CaptureError) as caught:
        load()
    where = f"{home}/catalogue.toml: capture mine"
    lines = str(caught.value).splitlines()
    assert f"{where}: pakets: unknown key; did you mean packets?" in lines
    assert f"{where}: packets: got 'ten', expected: input should be a valid integer" in lines
    assert (
        f"{where}: access: got 'wfi', expected one of 3g, 4g, adsl, fibre, wifi, unknown; "
        "did you mean wifi?"
    ) in lines
    assert any(line.endswith("did you mean viber?") for line in lines)
    assert len(lines) == 4


def test_a_missing_licence_is_told_by_name(home: Path) -> None:
    user_table(home, TABLE.replace('licence = "private"\n', ""))
    assert f"{home}/catalogue.toml: capture mine: licence: the key is missing" in check()


def test_a_table_that_is_no_toml_is_told_with_its_line(home: Path) -> None:
    user_table(home, "[[capture]\n")
    (problem,) = check()
    assert problem.startswith(f"{home}/catalogue.toml: not a TOML file: ")
    assert "line 1" in problem


def test_names_and_sums_that_stand_twice_are_told(home: Path) -> None:
    user_table(home, TABLE + TABLE)
    assert "capture mine: the name stands twice; names must be unique" in check()
    assert "capture mine: has the same sha256 as capture mine" in check()


def test_an_innocent_capture_cannot_name_an_app(home: Path) -> None:
    user_table(home, TABLE.replace('role = "call"', 'role = "innocent"'))
    expected = "an innocent capture has app none, kind none and media false"
    assert f"{home}/catalogue.toml: capture mine: {expected}" in check()


def test_labels_of_no_capture_are_told(home: Path) -> None:
    (home / "labels").mkdir()
    (home / "labels" / "0123456789abcdef.csv").write_text("")
    path = f"{home}/labels/0123456789abcdef.csv"
    assert check() == [f"{path}: labels of no catalogued capture"]


def test_labels_that_do_not_fit_the_capture_are_told(home: Path) -> None:
    user_table(home, TABLE)
    (home / "labels").mkdir()
    rows = "frame,proto,packets,app,role,call,confidence,evidence\n"
    rows += "11,udp,40,viber,setup,c1,high,seen at 192.0.2.1\n"
    path = home / "labels" / f"{SUM[:16]}.csv"
    path.write_text(rows)
    assert check() == [
        f"{path}: frame 11: mine has 10 packets",
        f"{path}: frame 11: its evidence holds an address; leave it out",
        f"{path}: labels 40 packets, mine has 10",
        "capture mine: media is true, but no media flow is labelled",
        "capture mine: call c1 is labelled but not described in calls/",
    ]


def test_calls_that_fit_neither_catalogue_nor_labels_are_told(home: Path) -> None:
    user_table(home, TABLE)
    (home / "calls").mkdir()
    text = (
        f'capture = "yours"\nsha256 = "{SUM}"\n[[call]]\nid = "c1"\napp = "viber"\n'
        'kind = "audio"\nmedia = [3]\ninferred = true\ntimer_s = 5.0\ntimer_source = "x"\n'
        '[[call.gate]]\nflow = 3\nby = [3]\nkind = "transaction"\npairs = [[3, 99]]\n'
    )
    path = home / "calls" / "yours.toml"
    path.write_text(text)
    assert check() == [
        f"{path}: names the capture yours, but its sha256 is mine's",
        f"{path}: call c1: media flow 3 has no label",
        f"{path}: call c1: gate 3: a frame is beyond the 10 of the capture",
    ]


def test_a_group_may_not_mix_real_and_synthetic_captures() -> None:
    pair = [capture(), capture(name="crafted", synthetic=True)]
    expected = "group g1: spans synthetic and real captures: mine, crafted"
    assert list(group_problems(pair)) == [expected]


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(CaptureError, match=r"no capture is named 'wa_vido'; did you mean wa_video"):
        load(local=False).named("wa_vido")


def test_a_written_catalogue_reads_back_the_same(tmp_path: Path) -> None:
    catalogue = load(local=False)
    write_catalogue(tmp_path / "copy.toml", catalogue)
    table = read_table(tmp_path / "copy.toml", CatalogueFile)
    assert table.captures == catalogue.captures
    assert table.origins == catalogue.origins


def test_awkward_text_survives_writing(tmp_path: Path) -> None:
    odd = capture(notes='a "quoted" \\ back\tslash\nline é', sources=[Source(origin="o", path="p")])
    write_catalogue(tmp_path / "odd.toml", load(local=False)._replace(captures=[odd]))
    assert read_table(tmp_path / "odd.toml", CatalogueFile).captures == [odd]


@pytest.mark.parametrize(
    "text",
    ["at 192.0.2.1", "2001:db8:0:1::5 x", "00:11:22:33:44:55", "sip:bob", "bob@example.org",
     "+212600112233"],
)  # fmt: skip
def test_what_looks_like_an_address_is_seen(text: str) -> None:
    assert addresses_in(text)


@pytest.mark.parametrize("text", ["attrs 0x4000 0x4002", "nDPI 4.2", "16-27=ff", "RTP@0: 12 of 12"])
def test_what_is_no_address_is_left_alone(text: str) -> None:
    assert not addresses_in(text)
