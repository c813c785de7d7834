# SPDX-License-Identifier: BSD-3-Clause
"""Recording: what is asked for, whose a flow was, what gates a call; without programs or root."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import check, load
from midcall.captures.truth.labels import labels
from midcall.captures.truth.media_gates import invitations, payloads, transactions
from midcall.captures.truth.paths import samples
from midcall.errors import TestbedError
from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, RELAY
from midcall.testbed.programs.background.driver import KINDS, Service, Stage, bystander, missing
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import Account, Candidate, End, Flow, Pair
from midcall.testbed.programs.recording import recorder, store
from midcall.testbed.programs.recording.recorder import Recording
from midcall.testbed.programs.recording.scenes import Scene, scene_set
from midcall.testbed.programs.recording.socket_owner import Owner
from midcall.testbed.programs.recording.truth import Truth

WEB = "198.19.4.1"


#: Bystanders that are programs of ours alone, and need nothing else.
PLAIN = ("game", "game-counter")
#: A kind of bystander of each module whose server reads files.
SERVED = ("web-http2", "chat-mqtts", "dns", "dtls", "openvpn-udp", "quic-http3")


class FakeLine:
    """A line of which only the processes are asked."""

    caller_pid, server_pid = 1, 2


class FakeWitness:
    """A witness that saw these owners, by (process, protocol, address, port)."""

    def __init__(self, seen: dict[tuple[int, str, str, int], str]) -> None:
        self.seen = seen

    def owner(self, pid: int, proto: str, end: tuple[bytes, int]) -> Owner | None:
        name = self.seen.get((pid, proto, str(ipaddress.ip_address(end[0])), end[1]))
        return None if name is None else Owner(99, name)


def frame(source: str, target: str, transport: Any, content: bytes = b"x" * 20) -> bytes:
    """Return a frame of one packet."""
    head = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src=source, dst=target)
    return bytes(head / transport / Raw(content))


def truth(seen: dict[tuple[int, str, str, int], str], **more: Any) -> Truth:
    """Return the truth of a recording whose sockets were seen so."""
    line: Any = FakeLine()
    witness: Any = FakeWitness(seen)
    return Truth(line, witness, **more)


def account(plan: Plan, flows: list[Flow], relay: str = "") -> Account:
    """Return what a program said of a call with these flows."""
    local = Candidate("relay" if relay else "host", CALLER, 4000, "udp", relay)
    pair = Pair(local, Candidate("host", CALLEE, 5000, "udp"), 0.1)
    ends = tuple(
        End(name, at, pairs=(pair,), flows=tuple(flows))
        for name, at in (("caller", CALLER), ("callee", CALLEE))
    )
    return Account(plan, True, 0, 3.0, ends)


def talk(port: int, far: str, far_port: int) -> Packets:
    """Return a datagram each way."""
    return packets_of(
        [
            frame(CALLER, far, UDP(sport=port, dport=far_port)),
            frame(far, CALLER, UDP(sport=far_port, dport=port)),
        ],
        [1, 2],
    )


# ---- truth


def test_a_bystanders_flow_is_told_by_the_server_that_listens_and_by_both_sockets() -> None:
    seen = {(1, "udp", CALLER, 4000): "curl", (2, "udp", WEB, 443): "nginx"}
    services = [Service("udp", WEB, 443, "nginx, HTTP/3 over QUIC")]
    (row,), problems = truth(seen, services=services).labels(talk(4000, WEB, 443))
    assert problems == []
    assert row[:7] == (1, "udp", 2, "none", "other", "", "high")
    assert row.evidence == "recorded: curl to nginx, HTTP/3 over QUIC; both sockets by process"


def test_a_flow_whose_sockets_nobody_saw_is_of_medium_confidence() -> None:
    services = [Service("udp", WEB, 53, "unbound, DNS")]
    (row,), _ = truth({}, services=services).labels(talk(4000, WEB, 53))
    assert row.confidence == "medium"
    assert row.evidence.endswith("; no socket was seen")


def test_a_flow_of_nobody_is_a_problem_that_names_it() -> None:
    rows, problems = truth({}).labels(talk(4000, "198.19.99.1", 9))
    assert rows == []
    assert problems == [
        "frame 1: udp 198.18.1.1:4000 - 198.19.99.1:9 is of no program that was started"
    ]


def test_a_call_is_told_by_its_program_not_by_what_is_in_the_packets() -> None:
    call_account = account(Plan(), [Flow("udp", CALLER, 4000, CALLEE, 5000, "media")])
    (row,), _ = truth({(1, "udp", CALLER, 4000): "chromium"}, account=call_account).labels(
        talk(4000, CALLEE, 5000)
    )
    assert row[3:7] == ("other-rtc", "media", "call-1", "high")
    assert row.evidence == "recorded: chromium, media by its own account; one socket by process"


@pytest.mark.parametrize(("relay", "role"), [("udp", "media"), ("", "setup")])
def test_a_relay_carries_media_only_where_the_chosen_pair_goes_through_it(
    relay: str, role: str
) -> None:
    call_account = account(Plan(), [Flow("udp", CALLER, 4000, RELAY, 3478, "relay")], relay)
    (row,), _ = truth({}, account=call_account).labels(talk(4000, RELAY, 3478))
    assert row.role == role


def test_a_way_that_was_not_chosen_is_set_up() -> None:
    call_account = account(Plan(path="any"), [])
    (row,), problems = truth({}, account=call_account).labels(talk(4000, RELAY, 3478))
    assert (row.app, row.role, problems) == ("other-rtc", "setup", [])


def test_a_data_channel_is_no_call() -> None:
    call_account = account(Plan(media="data"), [Flow("udp", CALLER, 4000, CALLEE, 5000, "media")])
    (row,), _ = truth({}, account=call_account).labels(talk(4000, CALLEE, 5000))
    assert (row.app, row.role, row.call) == ("none", "other", "")


def test_errors_of_the_kernel_are_nobodys() -> None:
    packets = packets_of([frame(CALLEE, CALLER, ICMP(type=3, code=3))], [1])
    (row,), problems = truth({}).labels(packets)
    assert (row.proto, row.app, problems) == ("icmp", "none", [])


# ---- gates


def test_a_transaction_read_from_packets_is_the_one_that_the_generator_wrote() -> None:
    one = load(local=False).named("sample-skype-audio")
    (call,) = calls(one.sha256)
    flow_payloads = dict(payloads(read(samples().folder / one.file)))
    pairs = transactions(flow_payloads[call.media[0]])
    assert set(map(tuple, call.gates[0].pairs)) <= set(map(tuple, pairs))


def test_an_invitation_is_paired_with_its_200_and_not_with_an_earlier_one() -> None:
    one = load(local=False).named("sample-sip-audio")
    flow_payloads = dict(payloads(read(samples().folder / one.file)))
    setup = next(row.frame for row in labels(one.sha256) if row.role == "setup")
    ((asked, answered),) = invitations(flow_payloads[setup])
    by_frame = {at: octets for at, _, octets in flow_payloads[setup]}
    assert by_frame[asked].startswith(b"INVITE ")
    assert by_frame[answered].startswith(b"SIP/2.0 200")
    assert invitations([row for row in flow_payloads[setup] if row[0] != asked]) == []


# ---- what is asked for


def test_the_committed_scenes_can_be_read_and_have_names_of_their_own() -> None:
    names = [scene.name for scene in scene_set("samples")]
    assert len(names) == len(set(names)) >= 60


def test_a_set_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(TestbedError, match=r"no such set; expected one of samples, or a .toml"):
        scene_set("sample")


def test_every_problem_of_a_scene_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'scenes = [{ caller = "chromum" }, { bystander = "dns", access = "5g" }, '
        '{ caller = "sipp", media = "audio+video" }, {}]'
    )
    with pytest.raises(TestbedError) as caught:
        scene_set(str(path))
    message = str(caught.value)
    assert "got 'chromum', expected one of chromium, aiortc, baresip, sipp" in message
    assert "access: got '5g', expected one of 3g, 4g, adsl, fibre, wifi" in message
    assert "media: got 'audio+video', sipp can do audio" in message
    assert "a scene has either a caller or a bystander" in message


def test_scenes_that_stand_twice_need_a_take(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('scenes = [{ bystander = "dns" }, { bystander = "dns", seconds = 4.0 }]')
    with pytest.raises(TestbedError, match="stand twice, give them a take: lab-dns-fibre"):
        scene_set(str(path))
    path.write_text('scenes = [{ bystander = "dns" }, { bystander = "dns", take = 2 }]')
    assert [scene.name for scene in scene_set(str(path))] == ["lab-dns-fibre", "lab-dns-fibre-2"]


def test_an_unknown_bystander_is_told() -> None:
    with pytest.raises(TestbedError, match="got 'wireguard2', expected one of web-plain"):
        missing("wireguard2")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bystander_whose_programs_are_not_here_says_how_to_get_them(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    for module in ("certificates", "quic"):
        monkeypatch.setattr(
            f"midcall.testbed.programs.background.{module}.find_spec", lambda _: None
        )
    lacks = missing(kind)
    assert bool(lacks) == (kind not in PLAIN)
    for line in lacks:
        assert "is missing: " in line
        assert "apt-get install" in line or "pip install" in line
    if lacks:
        line: Any = FakeLine()
        with pytest.raises(TestbedError, match=f"bystander {kind}: "), bystander(kind, line):
            pass


@pytest.mark.parametrize("kind", SERVED)
def test_a_bystander_whose_server_did_not_start_can_be_started_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks := missing(kind):
        pytest.skip("; ".join(lacks))
    line: Any = FakeLine()
    line.network = SimpleNamespace(folder=tmp_path)
    began: list[Path] = []

    def fails(*_: Any, **__: Any) -> Any:
        began.extend(tmp_path.iterdir())
        raise TestbedError("it did not start")

    monkeypatch.setattr(Stage, "server", fails)
    monkeypatch.setattr("shutil.chown", lambda *_: None)
    for _ in range(2):
        with pytest.raises(TestbedError, match="it did not start"), bystander(kind, line):
            pass
        assert list(tmp_path.iterdir()) == []
    assert len(began) == 2


def test_a_scene_whose_programs_are_missing_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "missing", lambda _: ["dig is missing: apt-get install dig"])
    failures: list[tuple[str, str]] = []
    scenes = [Scene(bystander="dns")]
    assert list(recorder.record(scenes, lambda one, why: failures.append((one.name, why)))) == []
    assert failures == [("lab-dns-fibre", "dig is missing: apt-get install dig")]


# ---- what is kept


def recording(content: bytes) -> Recording:
    """Return a recording of a bystander that said one thing."""
    up = frame(CALLER, WEB, TCP(sport=4000, dport=80), content)
    packets = packets_of([up], [1_800_000_000_000_000_000])
    services = [Service("tcp", WEB, 80, "nginx, HTTP/1.1 in the clear")]
    rows, _ = truth({}, services=services).labels(packets)
    return Recording(Scene(bystander="web-plain"), {"c0": packets}, rows, None, "")


def test_a_recording_is_kept_with_its_truth_and_a_new_one_takes_its_place(tmp_path: Path) -> None:
    place = store.at(tmp_path)
    first = store.keep(place, recording(b"GET /1"))
    second = store.keep(place, recording(b"GET /2"))
    assert [row.name for row in store.rows(place)] == ["lab-web-plain-fibre"]
    assert first.sha256 != second.sha256
    assert [path.stem for path in place.labels.iterdir()] == [second.sha256[:16]]
    assert (second.recorded, second.synthetic, second.role) == (True, False, "innocent")
    assert check(local=False) == []


def test_what_a_user_added_under_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    place = store.at(tmp_path)
    row = store.keep(place, recording(b"GET /1"))
    text = place.catalogue.read_text().replace("recorded = true\n", "")
    place.catalogue.write_text(text)
    with pytest.raises(TestbedError, match="is there and was not recorded here"):
        store.keep(place, recording(b"GET /2"))
    assert (tmp_path / row.file).exists()
