# SPDX-License-Identifier: BSD-3-Clause
"""The outsider's rules: of an author who had not read the localiser, asked on committed captures.

`outsider.toml` says what each rule is and what is accepted as right; here it becomes a planted
rule. Some never strike their capture, so that there is nothing to find; the benchmark says so.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from captures.folders import samples
from experiments.errors import ExperimentError
from experiments.localiser.rule import Box, Planted, all_of, at, is_up, octet
from testbed.probe import Sent


@cache
def rules() -> tuple[Planted, ...]:
    """Return all rules."""
    text = resources.files(__package__).joinpath("outsider.toml").read_text("utf-8")
    return tuple(map(planted, tomllib.loads(text)["rule"]))


def planted(told: dict[str, Any]) -> Planted:
    """Return a rule of the file as a planted one."""
    name = told["id"]
    words = {"name": told.get("names", ()), "prefix": told.get("prefixes", ()),
             "unseen": told.get("unseen", ())}  # fmt: skip
    return Planted(
        name,
        "outsider",
        told["policy"] if "policy" in told else WANTED[name],
        tuple(map(frozenset, told["needs"])),
        {what: tuple(numbers) for what, numbers in told.get("edges", {}).items()},
        capture(told["capture"]),
        {word: tuple(held) for word, held in words.items() if held},
        frozenset(told.get("implied", ())),
        told.get("access", "fibre"),
    )


def capture(name: str) -> Path:
    """Return the file of a capture: a sample, or one that was a sample when the rules were written
    and is kept beside them, so that the figure can be had again. Raises ExperimentError."""
    for folder in (samples().folder, Path(__file__).parent):
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
