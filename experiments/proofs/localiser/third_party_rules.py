# SPDX-License-Identifier: BSD-3-Clause
"""Third-party rules: by authors who had not read the localiser, for committed captures.

`third_party.toml` has the rules of the first author and the accepted results; here they become
benchmark rules. Each folder of `third_party` holds the rules of another author as a policy file
(`rules.toml`, one hypothesis a rule) and the capture of each (`index.toml`); the numbers, names and
prefixes for the held-out probes are read from the policy. Some rules never block their capture, so
that there is nothing to find; the benchmark reports them.
"""

from __future__ import annotations

import ipaddress
import math
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.truth.paths import recorded, samples
from midcall.errors import ExperimentError
from midcall.experiments.proofs.localiser.rule import (
    BenchmarkRule,
    Box,
    all_of,
    at,
    base_of,
    is_up,
    octet,
)
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.policy.operator import Policy
from midcall.testbed.policy.syntax import port_range, span
from midcall.testbed.probing.probe import Sent, flows_of


@cache
def rules() -> tuple[BenchmarkRule, ...]:
    """Return all rules of the first author."""
    text = resources.files(__package__).joinpath("third_party.toml").read_text("utf-8")
    return tuple(map(rule_from_table, tomllib.loads(text)["rule"]))


def authors() -> list[str]:
    """Return the names of the sets that are policy files."""
    home = resources.files(__package__).joinpath("third_party")
    return sorted(one.name for one in home.iterdir() if one.joinpath("index.toml").is_file())


@cache
def rules_of(author: str) -> tuple[BenchmarkRule, ...]:
    """Return the rules of one author's policy file."""
    home = resources.files(__package__).joinpath("third_party", author)
    index = tomllib.loads(home.joinpath("index.toml").read_text("utf-8"))["rule"]
    with resources.as_file(home.joinpath("rules.toml")) as path:
        return tuple(
            of_policy(
                one["id"],
                policy_named(f"{path}/{one['id']}", "fibre", None),
                capture(one["capture"].partition(".")[0]),
            )
            for one in index
        )


def of_policy(name: str, policy: Policy, call: Path) -> BenchmarkRule:
    """Return a policy as a benchmark rule.

    A prefix that contains no far end of the capture cannot be found with it; it becomes "unseen".
    """
    words: dict[str, tuple[str, ...]] = {}
    for rule in policy.rules:
        match = rule.match
        prefixes = policy.prefixes(rule)
        for word, values in (("name", [*match.name, *match.dns]), ("prefix", prefixes)):
            words[word] = (*words.get(word, ()), *values)
    far_ends = [ipaddress.ip_address(ends.far) for ends in flows_of(base_of(call))]
    unseen = tuple(
        one for one in words.get("prefix", ())
        if not any(far in ipaddress.ip_network(one) for far in far_ends)
    )  # fmt: skip
    known = {word: values for word, values in {**words, "unseen": unseen}.items() if values}
    return BenchmarkRule(name, "outsider", policy, (), edges_of(policy), call, known)


def edges_of(policy: Policy) -> dict[str, tuple[float, ...]]:
    """Return the numbers of a policy's rules by their unit."""
    edges: dict[str, list[float]] = {}
    for rule in policy.rules:
        match = rule.match
        for word in match.ports:
            edges.setdefault("port", []).extend(port_range(word))
        for name in ("size", "packets", "bytes", "seconds", "entropy"):
            if getattr(match, name) is not None:
                ends = [end for end in span(getattr(match, name)) if 0 < end < math.inf]
                edges.setdefault(name, []).extend(ends)
        for name in ("packets", "bytes", "seconds"):
            if rule.after is not None and getattr(rule.after, name):
                edges.setdefault(name, []).append(getattr(rule.after, name))
        if match.protocol in ("tcp", "udp"):
            edges.setdefault("protocol", []).append(UDP if match.protocol == "tcp" else TCP)
    return {name: tuple(dict.fromkeys(numbers)) for name, numbers in edges.items()}


def rule_from_table(table: dict[str, Any]) -> BenchmarkRule:
    """Return a table of the file as a benchmark rule."""
    name = table["id"]
    words = {"name": table.get("names", ()), "prefix": table.get("prefixes", ()),
             "unseen": table.get("unseen", ())}  # fmt: skip
    return BenchmarkRule(
        name,
        "outsider",
        table["policy"] if "policy" in table else PYTHON_RULES[name],
        tuple(map(frozenset, table["needs"])),
        {what: tuple(numbers) for what, numbers in table.get("edges", {}).items()},
        capture(table["capture"]),
        {word: tuple(values) for word, values in words.items() if values},
        frozenset(table.get("implied", ())),
        table.get("access", "fibre"),
    )


def capture(name: str) -> Path:
    """Return the file of a capture: a sample, or one that was a sample when the rules were written
    and is stored next to them, so that results can be reproduced. Raises ExperimentError."""
    for folder in (samples().folder, recorded().folder, Path(__file__).parent):
        for file in folder.glob(f"{name}.pcap*"):
            return file
    raise ExperimentError(f"third_party.toml: no capture {name!r} among the samples; restore it")


# ---- what the policy language cannot express


def over(proto: int) -> Box:
    """Return a box that drops a transport's packets."""
    return lambda one, state: one.ends.proto == proto


def of_port(port: int) -> Box:
    """Return a box that drops packets to and from a far port."""
    return lambda one, state: one.ends.far_port == port


def first_packets(count: int) -> Box:
    """Return a box that drops the first packets of each flow; it must receive all of them."""

    def box(packet: Sent, state: dict[str, Any]) -> bool:
        state[repr(packet.ends)] = state.get(repr(packet.ends), 0) + 1
        return bool(state[repr(packet.ends)] <= count)

    return box


def in_step(low: float, high: float, gaps: int) -> Box:
    """Return a box that drops UDP of one direction after `gaps` consecutive gaps of `low` to `high`
    s."""

    def box(packet: Sent, state: dict[str, Any]) -> bool:
        if packet.ends.proto != 17:
            return False
        key = repr((packet.ends, packet.up))
        last, length = state.get(key, (None, 0))
        in_gap = last is not None and low * 1e9 <= packet.time - last <= high * 1e9
        length = length + 1 if in_gap else 0
        state[key] = packet.time, length
        return length >= gaps

    return box


def answered(question: str, answer: str) -> Box:
    """Return a box that drops a STUN answer after its request in the same flow; both are types in
    hex."""
    cookie = at(4, "2112a442")
    asks, answers = all_of(at(0, question), cookie), all_of(at(0, answer), cookie)

    def box(packet: Sent, state: dict[str, Any]) -> bool:
        key = repr(packet.ends)
        if packet.up and asks(packet, state):
            state[key] = True
        return not packet.up and key in state and answers(packet, state)

    return box


PYTHON_RULES: dict[str, Box] = {
    "octets-viber-hello": all_of(over(17), at(2, "0100"), lambda one, state: is_up(one)),
    "octets-wa": all_of(over(6), of_port(5222), at(0, "5741")),
    "octets-rtp-type": all_of(
        over(17), octet(0, lambda o: o & 0xC0 == 0x80), octet(1, lambda o: o & 0x7F == 104)
    ),
    "octets-query-late": all_of(first_packets(2), over(17), at(0, "ffffffff")),
    "timing-voice": in_step(0.010, 0.030, 10),
    "order-of-two": answered("0003", "0103"),
}
