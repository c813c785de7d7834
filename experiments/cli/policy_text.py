# SPDX-License-Identifier: BSD-3-Clause
"""Policies as text for the command line: operators, their rules, a capture's ClientHellos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from midcall.errors import ExperimentError

#: Keys of a rule that `rule_lines` prints in fixed places.
APART = {"name", "match", "act", "grade", "source", "hypothesis", "note", "aims"}


def listed() -> Iterator[str]:
    """Yield one line per operator that ships."""
    from midcall.testbed.policy.loader import available, load

    for name in available():
        operator = load(name)
        grades = sorted({rule.grade for one in operator.hypotheses for rule in one.rules})
        days = [period.begin for period in operator.periods]
        since = f"from {min(days)}" if days else "at all times"
        count = len(operator.hypotheses)
        yield (
            f"{name:24} {operator.country}  {since}, {count} "
            f"{'hypothesis' if count == 1 else 'hypotheses'}, grade {'/'.join(grades)}  "
            f"{operator.title}"
        )


def shown(name: str) -> Iterator[str]:
    """Yield the lines that describe an operator."""
    from midcall.testbed.policy.loader import load

    operator = load(name)
    yield f"{operator.title} ({operator.country}), fails {operator.fail}"
    for period in operator.periods:
        only = f", only {', '.join(period.only)}" if period.only else ""
        mark = ", hypothesis" if period.hypothesis else ""
        yield (
            f"  {period.begin} to {period.end or 'now'} on {', '.join(period.access)}{only} "
            f"[{period.grade}{mark}] {period.source}"
        )
    for one in operator.hypotheses:
        yield ""
        yield f"{one.id}: {one.title}"
        yield f"  {one.description}"
        if one.rules_of:
            yield f"  the rules of {one.rules_of}"
        for rule in one.rules:
            yield from rule_lines(rule)


def plain(name: str | None) -> Any:
    """Return an operator as plain values, or the names of those that ship."""
    from midcall.testbed.policy.loader import available, load

    if name is None:
        return list(available())
    return load(name).model_dump(mode="json", by_alias=True)


def rule_lines(rule: Any) -> Iterator[str]:
    """Yield the two lines of a rule: match and act, then grade and source."""
    from midcall.captures.truth.strict_toml import toml

    fields = rule.model_dump(exclude_defaults=True, by_alias=True, mode="json")
    match = ", ".join(f"{key} = {toml(value)}" for key, value in fields["match"].items())
    more = "".join(f", {k} = {toml(v)}" for k, v in fields.items() if k not in APART)
    mark = ", hypothesis" if rule.hypothesis else ""
    yield f"  {rule.name}: {match} -> {rule.act}{more}"
    yield f"    [{rule.grade}{mark}] {rule.source}"


class Hello(NamedTuple):
    """A ClientHello: its fingerprint as `match.hello` takes it, its frame, transport and port."""

    fingerprint: str
    frame: int
    transport: str
    port: int

    @property
    def line(self) -> str:
        """Return the hello as one line."""
        return f"{self.fingerprint}  frame {self.frame}, {self.transport} {self.port}"


def hellos(capture: str) -> list[Hello]:
    """Return the ClientHellos of a capture, without host names and addresses.

    Raises ExperimentError if there is none.
    """
    from midcall.captures.packets.numbers import TCP
    from midcall.captures.packets.pcap import read
    from midcall.classifier.engine import Engine
    from midcall.classifier.state.packet_fields import SIGN_HELLO_PRINT

    packets, engine, listed_hellos = read(capture), Engine(model=None), []
    for at in range(packets.total):
        (number,) = engine.feed(packets.take(slice(at, at + 1)))
        mark = int(engine.signs[SIGN_HELLO_PRINT]) if number >= 0 else 0
        if mark:
            flow = engine.tables.flows[number]
            over = "tcp" if int(flow["proto"]) == TCP else "udp"
            listed_hellos.append(Hello(f"{mark:016x}", at + 1, over, int(flow["target_port"])))
    if not listed_hellos:
        raise ExperimentError(f"{capture}: no ClientHello of TLS, DTLS or QUIC is in it")
    return listed_hellos
