# SPDX-License-Identifier: BSD-3-Clause
"""Rules of outsiders: of authors who had not read the localiser, asked on committed captures.

`outsider.toml` says what each rule of the first author is and what is accepted as right; here it
becomes a planted rule. Each folder of `outsiders` holds the rules of another author as a policy
file (`rules.toml`, one hypothesis a rule) and what capture each is of (`index.toml`); the numbers,
names and prefixes that fresh probes lie beside are read from the policy. Some rules never strike
their capture, so that there is nothing to find; the benchmark says so.
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
    Box,
    Planted,
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
def rules() -> tuple[Planted, ...]:
    """Return all rules."""
    text = resources.files(__package__).joinpath("outsider.toml").read_text("utf-8")
    return tuple(map(planted, tomllib.loads(text)["rule"]))


def authors() -> list[str]:
    """Return the names of the sets that are policy files."""
    home = resources.files(__package__).joinpath("outsiders")
    return sorted(one.name for one in home.iterdir() if one.joinpath("index.toml").is_file())


@cache
def rules_of(author: str) -> tuple[Planted, ...]:
    """Return the rules of one author's policy file."""
    home = resources.files(__package__).joinpath("outsiders", author)
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


def of_policy(name: str, policy: Policy, call: Path) -> Planted:
    """Return a policy as a planted rule.

    A prefix in which no far end of the capture lies cannot be found with it.
    """
    words: dict[str, tuple[str, ...]] = {}
    for rule in policy.rules:
        match = rule.match
        prefixes = policy.prefixes(rule)
        for word, held in (("name", [*match.name, *match.dns]), ("prefix", prefixes)):
            words[word] = (*words.get(word, ()), *held)
    fars = [ipaddress.ip_address(ends.far) for ends in flows_of(base_of(call))]
    unseen = tuple(
        one for one in words.get("prefix", ())
        if not any(far in ipaddress.ip_network(one) for far in fars)
    )  # fmt: skip
    kept = {word: held for word, held in {**words, "unseen": unseen}.items() if held}
    return Planted(name, "outsider", policy, (), edges_of(policy), call, kept)


def edges_of(policy: Policy) -> dict[str, tuple[float, ...]]:
    """Return the numbers of a policy's rules, by what they are of."""
    found: dict[str, list[float]] = {}
    for rule in policy.rules:
        match = rule.match
        for word in match.ports:
            found.setdefault("port", []).extend(port_range(word))
        for name in ("size", "packets", "bytes", "seconds", "entropy"):
            if getattr(match, name) is not None:
                ends = [end for end in span(getattr(match, name)) if 0 < end < math.inf]
                found.setdefault(name, []).extend(ends)
        for name in ("packets", "bytes", "seconds"):
            if rule.after is not None and getattr(rule.after, name):
                found.setdefault(name, []).append(getattr(rule.after, name))
        if match.protocol in ("tcp", "udp"):
            found.setdefault("protocol", []).append(UDP if match.protocol == "tcp" else TCP)
    return {name: tuple(dict.fromkeys(numbers)) for name, numbers in found.items()}


def planted(result: dict[str, Any]) -> Planted:
    """Return a rule of the file as a planted one."""
    name = result["id"]
    words = {"name": result.get("names", ()), "prefix": result.get("prefixes", ()),
             "unseen": result.get("unseen", ())}  # fmt: skip
    return Planted(
        name,
        "outsider",
        result["policy"] if "policy" in result else WANTED[name],
        tuple(map(frozenset, result["needs"])),
        {what: tuple(numbers) for what, numbers in result.get("edges", {}).items()},
        capture(result["capture"]),
        {word: tuple(held) for word, held in words.items() if held},
        frozenset(result.get("implied", ())),
        result.get("access", "fibre"),
    )


def capture(name: str) -> Path:
    """Return the file of a capture: a sample, or one that was a sample when the rules were written
    and is kept beside them, so that the figure can be had again. Raises ExperimentError."""
    for folder in (samples().folder, recorded().folder, Path(__file__).parent):
        for file in folder.glob(f"{name}.pcap*"):
            return file
    raise ExperimentError(f"outsider.toml: no capture {name!r} among the samples; restore it")


# ---- what the policy language has no word for


def over(proto: int) -> Box:
    """Return a box that drops a transport's packets."""
    return lambda one, memory: one.ends.proto == proto


def of_port(port: int) -> Box:
    """Return a box that drops what goes to or comes from a far port."""
    return lambda one, memory: one.ends.far_port == port


def first_packets(count: int) -> Box:
    """Return a box that drops the first packets of each flow; it must see all of them."""

    def box(one: Sent, memory: dict[str, Any]) -> bool:
        memory[repr(one.ends)] = memory.get(repr(one.ends), 0) + 1
        return bool(memory[repr(one.ends)] <= count)

    return box


def in_step(low: float, high: float, gaps: int) -> Box:
    """Return a box that drops UDP of one direction after so many gaps (s) of a length in a row."""

    def box(one: Sent, memory: dict[str, Any]) -> bool:
        if one.ends.proto != 17:
            return False
        key = repr((one.ends, one.up))
        last, row = memory.get(key, (None, 0))
        near = last is not None and low * 1e9 <= one.time - last <= high * 1e9
        row = row + 1 if near else 0
        memory[key] = one.time, row
        return row >= gaps

    return box


def answered(question: str, answer: str) -> Box:
    """Return a box that drops a STUN answer behind its question in the same flow; both: types."""
    cookie = at(4, "2112a442")
    asks, answers = all_of(at(0, question), cookie), all_of(at(0, answer), cookie)

    def box(one: Sent, memory: dict[str, Any]) -> bool:
        key = repr(one.ends)
        if one.up and asks(one, memory):
            memory[key] = True
        return not one.up and key in memory and answers(one, memory)

    return box


WANTED: dict[str, Box] = {
    "octets-viber-hello": all_of(over(17), at(2, "0100"), lambda one, memory: is_up(one)),
    "octets-wa": all_of(over(6), of_port(5222), at(0, "5741")),
    "octets-rtp-type": all_of(
        over(17), octet(0, lambda o: o & 0xC0 == 0x80), octet(1, lambda o: o & 0x7F == 104)
    ),
    "octets-query-late": all_of(first_packets(2), over(17), at(0, "ffffffff")),
    "timing-voice": in_step(0.010, 0.030, 10),
    "order-of-two": answered("0003", "0103"),
}
