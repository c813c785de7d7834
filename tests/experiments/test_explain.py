# SPDX-License-Identifier: BSD-3-Clause
"""Explanations: the words and marks of known packets, the masks, and that no verdict is another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from midcall.captures.packets.pcap import packets_of, read_with_notices
from midcall.captures.packets.writer import write_pcap
from midcall.experiments.cells.classify import classify_file
from midcall.experiments.cli.app import app
from midcall.experiments.tools.explain import (
    choose,
    drive,
    explain,
    packet_document,
    packets_of_flow,
    state_of,
    survey,
)
from midcall.experiments.tools.explain_text import render
from midcall.experiments.tools.packet_text import masked_name
from tests.classifier.wire import ether, udp_packet

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
WHATSAPP = SAMPLES / "sample-whatsapp-audio.pcap"
WEB = SAMPLES / "sample-web.pcap"


def midcall(*words: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def result(name: str, flow: str | None = None, packet: int = 1) -> str:
    """Return what the transcript says of one packet, without its first line."""
    document, _ = explain(str(SAMPLES / name), flow, 1)
    parts = render(document, terminal=False).split("\n\n")
    (part,) = [part for part in parts if part.startswith(f"#{packet} ")]
    lines = part.split("\n")[1:]
    text = "\n".join(line for line in lines if not line.startswith("   support  "))
    return re.sub(r"confidence 0\.\d\d", "confidence C", text)  # the table's: test_support


def test_a_whatsapp_allocate_is_told_by_its_first_attribute() -> None:
    assert result("sample-whatsapp-audio.pcap") == (
        "   read     STUN Allocate request; attributes 0x4000 (102)\n"
        "   rule     STUN attribute 0x4000 of 102 octets and nothing else\n"
        "   verdict  undecided -> certain whatsapp setup, confidence C\n"
        "     0020 .. .. eb 0d 0d 96 00 86 .. .. 00 03[00 6a]21 12\n"
        "                                              ^ length 106\n"
        "     0030 a4 42 .. .. .. .. .. .. .. .. .. .. .. ..[40 00]\n"
        "                                                    ^ attribute 0x4000"
    )


def test_a_viber_hello_is_told_behind_its_tunnel_and_session_word() -> None:
    assert result("sample-viber-pppoe.pcap", "2") == (
        "   read     136 octets that no standard reader takes\n"
        "   rule     Viber hello (01 00 05 00) behind a session word\n"
        "   verdict  undecided -> unsure viber setup, confidence C\n"
        "     0030 1f 31 00 90 .. .. .. ..[01 00 05 00].. .. .. ..\n"
        "                                  ^ hello 01 00 05 00"
    )


def test_a_messenger_realm_is_told_and_marked_over_two_rows() -> None:
    assert result("sample-messenger-audio.pcapng", "3", 2) == (
        "   read     STUN Allocate error response; attributes ERROR-CODE, NONCE, "
        'REALM "turner.facebook"\n'
        '   rule     TURN realm "turner.facebook"\n'
        "   verdict  certain rtc setup -> certain messenger setup, confidence C\n"
        "     0020 .. .. 9c 43 c3 b7 00 70 .. .. 01 13 00 54 21 12\n"
        "     *\n"
        "     0080 00 0f[74 75 72 6e 65 72 2e 66 61 63 65 62 6f 6f]\n"
        '                ^ realm "turner.facebook"\n'
        "     0090[6b].."
    )


def test_a_sip_request_is_told_without_whom_it_calls() -> None:
    assert result("sample-sip-audio.pcap") == (
        "   read     SIP message\n"
        "   rule     SIP message\n"
        "   verdict  undecided -> certain sip setup, confidence C\n"
        "     0020 .. .. 13 c4 13 c4 01 f0 .. ..[49 4e 56 49 54 45]\n"
        '                                        ^ "INVITE sip:"\n'
        "     0030[20 73 69 70 3a].. .. .. .. .. .. .. .. .. .. .."
    )


def test_plain_tls_is_told_with_its_name_masked() -> None:
    assert result("sample-web.pcap", "4", 4) == (
        "   read     TLS ClientHello, server name x.x.x\n"
        "   rule     TLS, no name of an app with calls\n"
        "   verdict  undecided -> not-call, confidence C\n"
        "     0030 .. .. .. .. .. ..[16 03 01]00 f7 .. .. .. .. ..\n"
        "                            ^ TLS record type and version\n"
        "   settled  no later packet of this flow is inspected"
    )


def test_the_rule_that_makes_a_role_grow_is_named_though_the_record_does_not_keep_it() -> None:
    document, _ = explain(str(SAMPLES / "sample-viber-pppoe.pcap"), "2", 0)
    grown = document["shown"][-1]
    assert (grown["before"]["role"], grown["after"]["role"]) == ("setup", "media")
    assert grown["rule"] == "RTP behind a two-octet session word"
    document, _ = explain(str(WHATSAPP), "12", 0)
    assert document["shown"][-1]["rule"] == "a media source of this app's call"


def test_what_is_counted_says_that_no_single_bytes_decide() -> None:
    document, _ = explain(str(SAMPLES / "sample-tunnels.pcapng"), "1", 1)
    assert document["decided_at_end"]
    text = render(document, terminal=False)
    assert "undecided to the end; no single bytes: counted over packets" in text
    assert ": no sign of a call in 6 payloads" in text


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.pcap*")), ids=lambda path: path.stem)
def test_every_flow_is_told_as_classify_decides_it(path: Path) -> None:
    agree(path)


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["wa_video.pcap", "viber_mobile.pcap", "telegram.pcap"])
def test_real_flows_too(corpus: Path, name: str) -> None:
    found = sorted(corpus.rglob(name))
    if not found:
        pytest.skip(f"{name} is not in {corpus}")
    agree(found[0])


def agree(path: Path) -> None:
    """Check every flow of a capture: same verdict, same packets, and a rule for every change."""
    seen = survey(str(path))
    rows = classify_file(str(path)).table.to_pylist()
    assert seen.rows == rows
    for position, row in enumerate(rows):
        last, count = state_of(None), 0
        for count, moment in enumerate(drive(seen, position), 1):
            packet = packet_document(moment, count, reveal=False)
            assert packet["before"] == last._asdict()
            if packet["changed"]:
                assert packet["rule"], (position, packet)
                assert packet["marks"] or packet["counted"], (position, packet)
            last = state_of(moment.after)
        assert count == row["packets"]
        if last.verdict != "undecided":
            assert last._asdict() == {key: row[key] for key in last._fields}


# ---- masks


def secrets(path: Path) -> list[bytes]:
    """Return every address of a capture's flows as octets, and every name in plain."""
    rows = classify_file(str(path)).table.to_pylist()
    return [bytes(map(int, row[side].split("."))) for row in rows for side in ("src_ip", "dst_ip")]


@pytest.mark.parametrize(
    "name",
    ["sample-whatsapp-audio.pcap", "sample-messenger-chat.pcap", "sample-whatsapp-gtp.pcap"],
)
def test_no_address_and_no_name_is_shown_without_reveal(name: str) -> None:
    path = SAMPLES / name
    raw = b"".join(read_with_notices(path)[0].frame(i) for i in range(20))
    for number in range(1, len(survey(str(path)).rows) + 1):
        document, _ = explain(str(path), str(number), 100)
        text = json.dumps(document) + render(document, terminal=False)
        shown = re.sub(r"\d+\.\d+\.0\.0/16", "", text.replace(str(path), ""))
        assert not re.search(r"\d+\.\d+\.\d+\.\d+", shown)
        for packet in document["shown"]:
            for secret in secrets(path):
                assert secret.hex(" ") not in packet["hex"]
    assert secrets(path)[0] in raw  # what is looked for is there to be found


def test_reveal_shows_addresses_names_and_every_octet() -> None:
    document, _ = explain(str(WEB), "4", 4, reveal=True)
    text = render(document, terminal=False)
    assert "are masked" not in text
    assert ".." not in document["shown"][0]["hex"]
    row = classify_file(str(WEB)).table.to_pylist()[3]
    assert f"tcp {row['src_ip']}:{row['src_port']}-{row['dst_ip']}:{row['dst_port']}" in text
    frame = read_with_notices(WEB)[0].frame(document["shown"][3]["frame"] - 1)
    assert document["shown"][3]["hex"] == frame.hex(" ")
    assert "server name x.x.x" not in text


def test_masks_are_said() -> None:
    assert "--reveal shows them" in midcall("explain", WEB).stdout
    assert "--reveal" not in midcall("explain", WEB, "--reveal").stdout


@pytest.mark.parametrize(
    ("name", "known", "shown"),
    [
        ("mmx-ds.cdn.whatsapp.net", "whatsapp.net", "x.x.whatsapp.net"),
        ("whatsapp.net", "whatsapp.net", "whatsapp.net"),
        ("my.own.host", "", "x.x.x"),
        ("", "", ""),
    ],
)
def test_of_a_name_only_its_known_end_is_shown(name: str, known: str, shown: str) -> None:
    assert masked_name(name, known) == shown


# ---- which flow


def test_without_a_flow_the_first_call_is_explained() -> None:
    seen = survey(str(WHATSAPP))
    chosen = choose(seen, None, False)
    assert seen.rows[chosen]["verdict"] == "certain"
    assert all(row["verdict"] != "certain" for row in seen.rows[:chosen])


def test_a_flow_is_found_by_its_ends_in_either_direction() -> None:
    seen = survey(str(WEB))
    row = seen.rows[3]
    here, there = (f"{row[f'{side}_ip']}:{row[f'{side}_port']}" for side in ("src", "dst"))
    assert choose(seen, f"tcp {here}-{there}", False) == 3
    assert choose(seen, f"TCP {there} -> {here}", False) == 3
    assert choose(seen, " 4 ", False) == 3


def test_the_packets_of_all_flows_are_the_packets_of_the_capture() -> None:
    seen = survey(str(WHATSAPP))
    found = [set(packets_of_flow(seen, at).tolist()) for at in range(len(seen.rows))]
    assert sum(map(len, found)) == len(set().union(*found)) == len(seen.numbers)


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        ("33", "no flow 33, the capture has flows 1 to 11"),
        ("0", "no flow 0, the capture has flows 1 to 11"),
        ("udp 198.18.0.1:61226-192.0.2.1:54", "did you mean --flow 1 (udp 198.18.x.x:61226-"),
        ("first", "flow 'first': expected a number of the list or 'udp 192.0.2.1:5000-"),
        ("udp 1.2.3.400:1-1.2.3.4:2", "'1.2.3.400' does not appear to be an IPv4"),
    ],
)
def test_an_unknown_flow_is_answered_with_the_closest_and_exit_code_2(
    flow: str, sentence: str
) -> None:
    done = midcall("explain", WEB, "--flow", flow)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"midcall: {WEB}: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_files_and_formats_that_cannot_be_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "none.pcap").write_bytes(WEB.read_bytes()[:24])
    write_pcap(tmp_path / "odd.pcap", packets_of([b"\0" * 60], [1], link=147))
    for words, sentence in (
        ((tmp_path / "missing.pcap",), "no such file"),
        ((tmp_path / "none.pcap",), "holds no flows, there is nothing to explain"),
        ((tmp_path / "odd.pcap",), "unknown link type 147"),
        ((WEB, "--format", "jsn"), "unknown format jsn (did you mean json?)"),
    ):
        done = midcall("explain", *words)
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1


# ---- forms


def test_json_is_one_document_of_a_fixed_schema() -> None:
    done = midcall("explain", WHATSAPP, "--format", "json", "--packets", "2")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert list(document) == [
        "schema",
        "file",
        "masked",
        "packets",
        "flows",
        "flow",
        "shown",
        "settled_frame",
        "decided_at_end",
    ]
    assert document["schema"] == 1
    assert document["masked"] is True
    assert document["flows"][2]["frame"] == document["shown"][0]["frame"]
    first = document["shown"][0]
    assert first["marks"] == [
        {"at": 44, "length": 2, "caption": "length 106", "secret": False},
        {"at": 62, "length": 2, "caption": "attribute 0x4000", "secret": False},
    ]
    assert first["hex"].split(" ")[62:64] == ["40", "00"]
    assert set(first) == {
        *("number", "frame", "ms", "direction", "captured", "payload", "payload_at", "layers"),
        *(
            "read",
            "inspected",
            "rule",
            "support",
            "counted",
            "before",
            "after",
            "changed",
            "settles",
        ),
        *("marks", "hex"),
    }


def test_packets_at_which_nothing_changed_are_counted_where_they_are_left_out() -> None:
    text = midcall("explain", WHATSAPP, "--flow", "12", "--packets", "1").stdout
    numbers = [int(n) for n in re.findall(r"^#(\d+) ", text, re.MULTILINE)]
    gaps = [int(n) for n in re.findall(r"\.\.\. (\d+) packets? at which", text)]
    assert len(numbers) + sum(gaps) == 502


def test_plain_text_has_brackets_and_a_terminal_colours_instead() -> None:
    document, _ = explain(str(WHATSAPP), "3", 1)
    plain, coloured = render(document, terminal=False), render(document, terminal=True)
    assert "[40 00]" in plain
    assert "\x1b" not in plain
    assert "[40 00]" not in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain.replace("[40 00]", " 40 00").replace(
        "[00 6a]", " 00 6a "
    )


def test_a_layer_is_named_for_every_tunnel() -> None:
    document, _ = explain(str(SAMPLES / "sample-whatsapp-gtp.pcap"), None, 1)
    layers = document["shown"][0]["layers"]
    assert layers == ["Ethernet", "IPv4", "GTP-U", "IPv4", "UDP"]
    seen = survey(str(SAMPLES / "sample-tunnels.pcapng"))
    for position in range(len(seen.rows)):
        for number, moment in enumerate(drive(seen, position), 1):
            assert "?" not in packet_document(moment, number, False)["layers"]


def test_a_connection_id_is_not_shown(tmp_path: Path) -> None:
    quic = b"\x0d" + bytes.fromhex("0123456789abcdef") + b"Q024" + bytes(40)
    path = tmp_path / "quic.pcap"
    write_pcap(path, packets_of([ether(udp_packet(quic))], [1]))
    document, _ = explain(str(path), "1")
    assert document["shown"][0]["rule"] == "QUIC"
    assert "0d .. .. .. .. .. .. .. .. 51 30 32 34 .." in document["shown"][0]["hex"]
