# SPDX-License-Identifier: BSD-3-Clause
"""Simulations: what their keys depend on, and how bystanders are counted."""

from __future__ import annotations

import datetime
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.labels import Label
from midcall.classifier.state.flow_table import FLOW
from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.spec import spec
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import cells, load_operators
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FORGED
from midcall.testbed.policy.loader import load as load_operator
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.simulator import FATE

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"


def item(name: str, **more: Any) -> Item:
    one = load(local=False).named(name)
    return Item(one, SAMPLES / one.file, [], [])._replace(**more)


def hits_of(
    held: Item,
    packets: Packets,
    numbers: Any,
    fate: Any,
    rule: Any,
    protos: list[int],
    without: Any = 1,
    *,
    reached: Any = True,
    target: int = 0x08080808,
    readable: bool = True,
) -> dict[str, list[int]]:
    """Count hits with flows of the given protocols, ports 40000 and 443, to one IPv4 address.

    `without` is the fate of the packets under no rules; reached: which of them meet the box then.
    """
    fates = np.zeros((2, packets.total), FATE)
    fates["fate"][0], fates["struck_rule"][0] = fate, rule
    fates["fate"][1], fates["struck_rule"][1] = without, -1
    flows = np.zeros(len(protos), FLOW)
    flows["proto"], flows["target_port"], flows["source_port"] = protos, 443, 40000
    flows["version"], flows["source"][:, 0], flows["target"][:, 0] = 4, 0x0A000001, target
    index = SimpleNamespace(facts={"flow": np.array(numbers)}, flows=flows)
    simulation, control = (
        SimpleNamespace(
            flow=np.where(reached, numbers, -1),
            fates=own,
            script=SimpleNamespace(held=index),
            struck=np.isin(own["fate"], (DROPPED, FORGED)),
            delivered=own["fate"] == DELIVERED,
        )
        for own in fates
    )
    hits: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    simulate.count_hits(held, packets, simulation, control, hits, readable)
    return dict(hits)


def three() -> Packets:
    return read(SAMPLES / "sample-dns.pcap").take(slice(0, 3))


def test_a_flow_is_hit_when_a_rule_dropped_or_forged_one_of_its_packets() -> None:
    held, packets = item("sample-dns"), three()
    size = [int(wire) for wire in packets.wire]
    result = hits_of(held, packets, [0, 0, 1], [1, 2, 1], [-1, 0, -1], [6, 17])
    assert result == {
        "web (tcp 443)": [1, 1, size[0] + size[1], size[1], 0],
        "quic (udp 443)": [1, 0, size[2], 0, 0],
    }
    forged = hits_of(held, packets, [0, 0, 1], [1, 3, 1], [-1, 2, -1], [6, 17])
    assert forged["web (tcp 443)"][1] == 1


def test_a_packet_that_is_lost_without_a_policy_too_is_no_hit() -> None:
    fates = [2, 4, 0]
    result = hits_of(item("sample-dns"), three(), [0, 0, 0], fates, [-1, -1, -1], [6], fates)
    assert result["web (tcp 443)"][1] == 0


def test_a_flow_that_never_starts_because_of_a_rule_on_another_is_hit() -> None:
    packets = three()
    result = hits_of(item("sample-dns"), packets, [0, 1, 1], [3, 0, 0], [0, -1, -1], [17, 6])
    size = [int(wire) for wire in packets.wire]
    assert result["web (tcp 443)"] == [1, 1, size[1] + size[2], size[1] + size[2], 0]


def test_a_flow_that_cannot_be_tested_is_counted_apart() -> None:
    flows = [0, 0, 1], [1, 2, 1], [-1, 0, -1], [6, 17]
    reached = np.array([True, True, False])
    late = hits_of(item("sample-dns"), three(), *flows, reached=reached)
    assert late["quic (udp 443)"] == [0, 0, 0, 0, 1]
    assert late["web (tcp 443)"][4] == 0
    changed = hits_of(item("sample-dns"), three(), *flows, readable=False)
    assert changed == {"web (tcp 443)": [0, 0, 0, 0, 1], "quic (udp 443)": [0, 0, 0, 0, 1]}


def test_a_flow_that_no_router_forwards_is_no_bystander() -> None:
    flows = [0, 0, 1], [1, 2, 1], [-1, 0, -1], [6, 17]
    assert hits_of(item("sample-dns"), three(), *flows, target=0xE00000FB) == {}


def test_neither_tcp_nor_udp_is_no_bystander() -> None:
    assert hits_of(item("sample-dns"), three(), [0, -1, -1], [2, 2, 2], [0, 0, 0], [1]) == {}


def test_in_a_capture_of_a_call_only_labelled_chat_and_other_flows_are_bystanders() -> None:
    labels = [
        Label(1, "udp", 1, "viber", "media", "c", "high"),
        Label(2, "tcp", 1, "viber", "messaging", "", "high"),
        Label(3, "tcp", 1, "none", "other", "", "low"),
    ]
    held = item("sample-viber-audio", labels=labels)
    result = hits_of(held, three(), [0, 1, 2], [2, 2, 2], [0, 0, 0], [17, 6, 6])
    assert {kind: counts[:2] for kind, counts in result.items()} == {"chat of viber": [1, 1]}


def test_a_key_depends_on_rules_access_seed_and_captures_and_on_nothing_else() -> None:
    operator = load_operator("inwi")
    day = datetime.date(2016, 1, 20)
    stun, ports = (operator.policy(name, "4g", day) for name in ("stun", "ports"))
    one, two = item("sample-dns"), item("sample-web")

    def key(policy: Policy, access: str, seed: int, items: list[Item]) -> str:
        return simulate.Bench(items, seed, None).unit(policy, access).key

    same = key(stun, "4g", 1, [one])
    assert same == key(operator.policy("stun", "4g", datetime.date(2016, 5, 1)), "4g", 1, [one])
    label = Label(1, "udp", 1, "none", "other", "", "high")
    changed = one.capture.model_copy(update={"changed": []})
    real = one.capture.model_copy(update={"synthetic": False})
    others = [
        key(ports, "4g", 1, [one]),
        key(stun, "3g", 1, [one]),
        key(stun, "4g", 2, [one]),
        key(stun, "4g", 1, [one, two]),
        key(stun, "4g", 1, [two]),
        key(stun, "4g", 1, [one._replace(labels=[label])]),
        key(stun, "4g", 1, [one._replace(capture=changed)]),
        key(stun, "4g", 1, [one._replace(capture=real)]),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_equal_rules_of_different_operators_and_dates_have_one_key() -> None:
    day = datetime.date(2016, 3, 15)
    keys = {
        simulate.rules_key(load_operator(name).policy("stun", "4g", day), "4g", 1)
        for name in ("inwi", "meditel", "maroc-telecom")
    }
    assert len(keys) == 1


def test_what_was_kept_is_found_again_and_nothing_else(tmp_path: Path) -> None:
    outcome = {"key": "ab" * 32, "calls": [], "collateral": [], "seconds": 1.0}
    simulate.keep(tmp_path, outcome)
    assert simulate.cached(tmp_path, "ab" * 32) == outcome
    assert simulate.cached(tmp_path, "cd" * 32) is None
    (tmp_path / "ab" / f"{'ab' * 32}.json").write_text("[1]")
    assert simulate.cached(tmp_path, "ab" * 32) is None


def test_the_default_grid_has_every_cell_and_marks_what_is_not_documented() -> None:
    default = spec.load("morocco-2016")[0]
    operators = load_operators(default)
    grid = cells(default, operators)
    hypotheses = sum(len(one.hypotheses) for one in operators.values())
    assert len(grid) == hypotheses * 4 * 4
    bare = {(cell.operator, cell.access) for cell in grid if not cell.documented}
    assert bare == {(name, line) for name in ("inwi", "meditel") for line in ("adsl", "wifi")}
    active = {(cell.access, cell.date) for cell in grid if cell.policy.rules}
    assert ("4g", "2015-12-15") not in active
    assert ("4g", "2016-01-20") in active
    assert ("wifi", "2016-03-15") in active
    assert not any(date == "2016-11-15" for _, date in active)


@pytest.mark.parametrize(
    ("proto", "ports", "kind"),
    [
        (17, (50000, 53), "dns (udp 53)"),
        (6, (50000, 443), "web (tcp 443)"),
        (17, (50000, 443), "quic (udp 443)"),
        (6, (5060, 50000), "sip port (tcp 5060)"),
        (17, (50000, 40000), "other udp"),
        (132, (1, 2), None),
    ],
)
def test_a_flow_is_named_by_transport_and_port(
    proto: int, ports: tuple[int, int], kind: str | None
) -> None:
    flow = {"proto": proto, "source_port": ports[0], "target_port": ports[1]}
    assert simulate.transport_kind(flow) == kind
