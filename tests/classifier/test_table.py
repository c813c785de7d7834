# SPDX-License-Identifier: BSD-3-Clause
"""The table that people get: exactly the promised columns, whole and unmasked."""

from __future__ import annotations

import numpy as np

from midcall.captures.packets.pcap import packets_of
from midcall.classifier.engine import Engine
from midcall.classifier.export import COLUMNS, columns
from midcall.classifier.state.flow_table import FLOW
from midcall.classifier.state.verdicts import APPS, ROLES, VERDICTS
from tests.classifier.payloads import whatsapp_allocate
from tests.classifier.wire import EPOCH, FAR, FAR6, NEAR, NEAR6, Wire, classify, ip, sample

PROMISED = (
    "file proto src_ip src_port dst_ip dst_port packets bytes first_ts last_ts verdict app "
    "family role confidence packets_to_verdict ms_to_verdict evidence"
)


def row(flows: np.ndarray, number: int = 0) -> dict[str, object]:
    """Return one row of the table."""
    return {name: values.tolist()[number] for name, values in columns(flows, "a.pcap").items()}


def test_columns_are_exactly_the_promised_ones_in_their_order() -> None:
    assert " ".join(COLUMNS) == PROMISED
    assert tuple(columns(np.zeros(0, FLOW), "none.pcap")) == COLUMNS


def test_a_row_says_everything_and_masks_nothing() -> None:
    passing = Wire().udp(bytes(30), ports=(40000, 3478)).wait(80)
    passing.udp(whatsapp_allocate(), ports=(40000, 3478)).udp(bytes(30), False, (40000, 3478))
    size = len(whatsapp_allocate())
    assert row(passing.flows()) == {
        "file": "a.pcap",
        "proto": "udp",
        "src_ip": NEAR,
        "src_port": 40000,
        "dst_ip": FAR,
        "dst_port": 3478,
        "packets": 3,
        "bytes": 3 * 28 + 60 + size,
        "first_ts": EPOCH / 1e9,
        "last_ts": (EPOCH + 120_000_000) / 1e9,
        "verdict": "certain",
        "app": "whatsapp",
        "family": "meta",
        "role": "setup",
        "confidence": 0.0,
        "packets_to_verdict": 2,
        "ms_to_verdict": 100.0,
        "evidence": "STUN attribute 0x4000 of 102 octets and nothing else, packet 2",
    }


def test_ipv6_addresses_are_in_their_short_form() -> None:
    shown = row(Wire().udp(b"x", hosts=(NEAR6, FAR6)).flows())
    assert (shown["src_ip"], shown["dst_ip"]) == (NEAR6, FAR6)


def test_protocols_without_a_name_are_numbers() -> None:
    frames = [ip(proto, bytes(20), NEAR, FAR) for proto in (17, 1, 47, 132, 99)]
    flows = classify(packets_of(frames, [EPOCH] * 5, 101))
    assert columns(flows, "")["proto"].tolist() == ["udp", "icmp", "gre", "sctp", "ip-99"]


def test_a_flow_without_a_verdict_says_minus_one() -> None:
    shown = row(np.zeros(1, FLOW))
    assert (shown["packets_to_verdict"], shown["ms_to_verdict"]) == (-1, -1.0)


def test_a_verdict_at_time_zero_is_a_verdict() -> None:
    frames = Wire().udp(whatsapp_allocate(), ports=(5, 3478)).frames
    shown = row(classify(packets_of(frames, [0])))
    assert (shown["packets_to_verdict"], shown["ms_to_verdict"]) == (1, 0.0)


def test_every_word_of_the_table_is_of_the_vocabulary() -> None:
    flows = classify(sample("sample-skype-presence"))
    table = {name: values.tolist() for name, values in columns(flows, "").items()}
    assert set(table["verdict"]) <= set(VERDICTS[1:])
    assert set(table["app"]) <= set(APPS)
    assert set(table["role"]) <= set(ROLES)
    assert all(table["evidence"])
    assert all(0 < one <= 1 for one in table["confidence"])


def test_an_engine_without_packets_has_an_empty_table() -> None:
    table = columns(Engine().flows(), "")
    assert {len(values.tolist()) for values in table.values()} == {0}
