# SPDX-License-Identifier: BSD-3-Clause
"""Packs: one pcapng with packets and truth, made, read by others, added."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import dpkt
import pytest
from typer.testing import CliRunner, Result

from midcall.captures.own.add import add, show
from midcall.captures.own.leaks import check
from midcall.captures.own.pack import Claim, pack, role_names
from midcall.captures.own.pack_format import read_pack
from midcall.captures.own.sharing import Shared, shared
from midcall.captures.packets.headers import flows
from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.errors import CaptureError
from midcall.experiments.cells.offline import classify_packets
from midcall.experiments.cli.app import app
from tests.captures.test_sharing import hello, record, segments
from tests.conftest import of_each_group

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
CALL = SAMPLES / "sample-whatsapp-audio.pcap"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))


def midcall(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def busiest() -> int:
    return max(flows(read(CALL)), key=lambda flow: flow.packets).frame


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    out = tmp_path / "share.pcapng"
    claim = Claim("CC0-1.0", "both callers agreed", "a friend")
    pack(CALL, out, "whatsapp", "audio", [str(busiest())], access="4g", year=2016, claim=claim)
    return out


def test_a_pack_holds_the_truth_and_no_address_of_the_original(packed: Path) -> None:
    truth = read_pack(packed)
    assert truth is not None
    assert (truth.app, truth.kind, truth.access, truth.year) == ("whatsapp", "audio", "4g", 2016)
    assert (truth.licence, truth.consent, truth.made_by) == (
        "CC0-1.0", "both callers agreed", "a friend",
    )  # fmt: skip
    assert [flow.role for flow in truth.flows] == ["media"]
    flow = next(one for one in flows(read(packed)) if one.frame == busiest())
    assert (truth.flows[0].frame, truth.flows[0].packets) == (flow.frame, flow.packets)
    assert truth.kept.names == ["whatsapp.net"]
    assert truth.broken.integrity > 0
    assert truth.check.patterns > 50
    raw = packed.read_bytes()
    for one in flows(read(CALL)):
        for end in (one.source, one.target):
            assert end[0] not in raw


def test_others_read_it_as_a_capture(packed: Path) -> None:
    with packed.open("rb") as file:
        seen = [len(frame) for _, frame in dpkt.pcapng.Reader(file)]
    assert seen == read(CALL).captured.tolist()
    for program, words in (("tshark", ["-r"]), ("ndpiReader", ["-q", "-i"])):
        if shutil.which(program) is None:
            continue
        done = subprocess.run(
            [program, *words, str(packed)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if program == "tshark":
            assert len(done.stdout.splitlines()) == len(seen)


def test_the_same_key_gives_the_same_copy_and_a_random_one_another(tmp_path: Path) -> None:
    for name, key in (("a", b"key"), ("b", b"key"), ("c", None), ("d", None)):
        pack(CALL, tmp_path / name, "whatsapp", "audio", key=key)
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_the_truth_is_taken_when_a_pack_is_added(packed: Path) -> None:
    capture = add(packed)
    assert (capture.app, capture.kind, capture.access, capture.year) == (
        "whatsapp", "audio", "4g", 2016,
    )  # fmt: skip
    assert capture.licence == "CC0-1.0"
    assert capture.changed == ["addresses", "names"]
    assert "both callers agreed" in capture.notes
    shown = show(capture.name)
    assert [(row.frame, row.role, row.app) for row in shown.labels] == [
        (busiest(), "media", "whatsapp")
    ]
    assert shown.calls[0].media == [busiest()]


def test_what_the_user_says_counts_more_than_the_pack(packed: Path) -> None:
    assert add(packed, kind="video", access="wifi").kind == "video"


def test_a_compressed_pack_is_one_too(packed: Path, tmp_path: Path) -> None:
    small = tmp_path / "share.pcapng.gz"
    small.write_bytes(gzip.compress(packed.read_bytes()))
    assert read_pack(small) == read_pack(packed)


def test_a_capture_that_is_no_pack_needs_its_app() -> None:
    assert read_pack(CALL) is None
    with pytest.raises(CaptureError, match="the app of the call is missing"):
        add(CALL)


def test_changed_packets_are_seen(packed: Path, tmp_path: Path) -> None:
    raw = bytearray(packed.read_bytes())
    raw[-20] ^= 1
    (tmp_path / "changed.pcapng").write_bytes(raw)
    with pytest.raises(CaptureError, match="not those that were packed"):
        add(tmp_path / "changed.pcapng")
    result = midcall("captures", "unpack", tmp_path / "changed.pcapng")
    assert result.exit_code == 2


def test_a_damaged_truth_is_one_sentence(packed: Path, tmp_path: Path) -> None:
    for old, new, words in ((b'"whatsapp"', b'"whatsap\0"', "damaged"),
                            (b'"version":1', b'"version":7', "invalid")):  # fmt: skip
        raw = packed.read_bytes().replace(old, new)
        (tmp_path / "bad.pcapng").write_bytes(raw)
        with pytest.raises(CaptureError, match=words):
            read_pack(tmp_path / "bad.pcapng")


def test_several_flows_with_roles_and_setup() -> None:
    assert role_names(2, []) == ["media", "media"]
    assert role_names(2, ["setup"]) == ["setup", "setup"]
    assert role_names(2, ["setup", "media"]) == ["setup", "media"]
    with pytest.raises(CaptureError, match="got 2 for 3 flows"):
        role_names(3, ["setup", "media"])
    with pytest.raises(CaptureError, match="expected one of media"):
        role_names(1, ["medium"])


def test_roles_reach_the_call(tmp_path: Path) -> None:
    frames = [flow.frame for flow in flows(read(CALL))][:3]
    roles = ["setup", "messaging", "media"]
    pack(CALL, tmp_path / "a.pcapng", "whatsapp", "audio", map(str, frames), roles)
    call = show(add(tmp_path / "a.pcapng").name).calls[0]
    assert (call.setup, call.signalling, call.media) == ([frames[0]], [frames[1]], [frames[2]])


def test_a_pack_with_a_hit_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "midcall.captures.own.pseudonyms.Pseudonyms.mac", lambda _self, address: address
    )
    out = tmp_path / "share.pcapng"
    result = midcall("captures", "pack", CALL, "--app", "whatsapp", "-o", out)
    assert result.exit_code == 2
    assert "nothing was written" in result.stderr
    assert "MAC address" in result.stderr
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []


def test_names_of_one_letter_are_packed_whatever_the_key(tmp_path: Path) -> None:
    hellos = b"".join(record(22, hello(b"%c.webex.com" % letter)) for letter in b"bgjmw")
    frames = [bytes(frame) for frame in segments(hellos, 1400)]
    write_pcap(tmp_path / "names.pcap", packets_of(frames, list(range(len(frames)))))
    for key in (b"%d" % number for number in range(12)):
        out = tmp_path / f"{key.decode()}.pcapng"
        pack(tmp_path / "names.pcap", out, "none", "unknown", key=key)
        assert b"b.webex.com" not in out.read_bytes()


def test_a_mapping_with_a_hit_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[bytes] = []

    def first_unmapped(packets: Packets, shift_days: int, key: bytes) -> Shared:
        keys.append(key)
        made = shared(packets, shift_days, key)
        return made._replace(packets=packets) if len(keys) == 1 else made

    monkeypatch.setattr("midcall.captures.own.pack.shared", first_unmapped)
    pack(CALL, tmp_path / "a.pcapng", "whatsapp", "audio", key=b"key")
    assert len(set(keys)) == 2
    assert not check(read(CALL), read(tmp_path / "a.pcapng")).found


def test_the_clock_moves_by_whole_days_and_the_number_is_not_stored(tmp_path: Path) -> None:
    truth = pack(CALL, tmp_path / "a.pcapng", "whatsapp", "audio", shift_days=-1234)
    moved = read(CALL).time - read(tmp_path / "a.pcapng").time
    assert set(moved.tolist()) == {1234 * 86400 * 10**9}
    assert truth.clock == "shifted by whole days"
    assert "1234" not in json.dumps(truth.model_dump(mode="json")["clock"])
    assert add(tmp_path / "a.pcapng").changed[:3] == ["addresses", "names", "times"]


def test_the_commands(tmp_path: Path) -> None:
    out = tmp_path / "share.pcapng"
    words = ("captures", "pack", CALL, "--app", "whatsapp", "--kind", "audio", "-o", out)
    result = midcall(*words, "--flow", busiest(), "--made-by", "me")
    assert result.exit_code == 0, result.output
    assert "nothing found" in result.stdout
    assert midcall(*words).exit_code == 2  # it exists
    shown = midcall("captures", "unpack", out, "--json")
    assert json.loads(shown.stdout)["made_by"] == "me"
    assert midcall("captures", "unpack", out, "-o", tmp_path / "bare.pcapng").exit_code == 0
    assert read_pack(tmp_path / "bare.pcapng") is None
    assert midcall("captures", "unpack", CALL).exit_code == 2
    assert midcall("captures", "add", out).stdout.startswith("added share: whatsapp audio")


def test_bad_arguments_are_told_before_anything_is_done(tmp_path: Path) -> None:
    out = tmp_path / "a.pcapng"
    with pytest.raises(CaptureError, match="app: got 'watsapp'"):
        pack(CALL, out, "watsapp", "audio")
    with pytest.raises(CaptureError, match=r"no such flow|expected"):
        pack(CALL, out, "whatsapp", "audio", ["udp 1.2.3.4:5-6.7.8.9:10"])
    write_pcap(tmp_path / "odd.pcap", packets_of([b"\0" * 60], [1], link=147))
    with pytest.raises(CaptureError, match="link type 147"):
        pack(tmp_path / "odd.pcap", out, "none", "unknown")
    assert not out.exists()


@pytest.mark.corpus
@pytest.mark.longest
def test_real_captures_are_packed_and_keep_their_verdicts(corpus: Path, tmp_path: Path) -> None:
    from midcall.captures.fetch.fetch import obtain
    from midcall.captures.truth.catalogue import load

    catalogue = load()
    paths = obtain(catalogue, corpus=corpus, offline=True).paths
    total = changed = 0
    for one in of_each_group(item for item in catalogue.captures if item.sha256 in paths):
        out = tmp_path / "share.pcapng"
        out.unlink(missing_ok=True)
        pack(paths[one.sha256], out, "none", "unknown")
        rows = [
            {row["frame"]: (row["verdict"], row["app"], row["role"])
             for row in classify_packets(read(path), "x")[0]}
            for path in (paths[one.sha256], out)
        ]  # fmt: skip
        total += len(rows[0])
        changed += sum(rows[1].get(frame) != row for frame, row in rows[0].items())
    assert total > 1000
    assert changed <= total / 100
