# SPDX-License-Identifier: BSD-3-Clause
"""Documented features of operators' boxes, and the scenarios that test the keyword for each.

Each row is a match, an act or a scope that some operator was observed to use, or is assumed to use.
Its scenarios (keys of testbed.conformance.scenarios) fail when the keyword is broken;
tests/testbed/test_conformance.py shows that by breaking each.
"""

from __future__ import annotations

Rows = tuple[tuple[str, tuple[str, ...]], ...]

MATCHES: Rows = (
    ("app and role, by the classifier", ("match.app", "match.role", "match.verdict")),
    ("STUN's magic cookie on any port", ("match.stun",)),
    ("STUN or TURN method, attribute", ("match.stun_method", "match.stun_attribute")),
    ("server name in TLS, in QUIC", ("match.name", "match.name_in")),
    ("DNS name", ("match.dns",)),
    ("address that a DNS answer gave", ("match.resolved",)),
    ("fingerprint of a DTLS ClientHello", ("match.hello",)),
    ("address set", ("match.addresses",)),
    ("port set", ("match.ports",)),
    ("allow-list of protocols", ("match.payload", "match.protocol", "act.pass")),
    ("packet size", ("match.size",)),
    ("direction", ("match.direction",)),
    ("DSCP", ("match.dscp",)),
    ("one packet in N (sampling)", ("match.one_in",)),
    ("packets, bytes, age of the flow", ("match.packets", "match.bytes", "match.seconds")),
    ("entropy of the payload", ("match.entropy",)),
    ("access network", ("rule.access",)),
    ("date", ("rule.from", "rule.to")),
    ("time of day", ("rule.hours",)),
    ("now and then, by the clock", ("rule.on_s", "rule.off_s")),
)
ACTS: Rows = (
    ("pass", ("act.pass",)),
    ("drop, in the path", ("act.drop",)),
    ("inject only, on-path", ("rule.path",)),
    ("TCP reset", ("act.reset", "rule.towards")),
    ("several resets", ("rule.resets",)),
    ("TTL and IP id of the end that is imitated", ("rule.hops", "rule.ip_id")),
    ("ICMP unreachable", ("act.unreachable", "rule.code")),
    ("TCP FIN", ("act.finish",)),
    ("forged DNS answer", ("act.dns-lie", "rule.answer")),
    ("block page", ("act.block-page",)),
    ("police (token bucket)", ("act.police",)),
    ("shape", ("act.shape",)),
    ("delay", ("act.delay", "rule.jitter_ms")),
    ("jitter", ("act.jitter",)),
    ("random loss", ("act.loss", "rule.burst")),
    ("DSCP mark", ("act.mark",)),
    ("priority queue by DSCP, with cross-traffic", ("act.prioritise",)),
    ("duplicate", ("act.duplicate",)),
    ("corrupt", ("act.corrupt",)),
    ("reorder", ("act.reorder",)),
    ("in one direction only", ("rule.way",)),
    (
        "stall after bytes",
        ("act.stall", "after.packets", "after.bytes", "after.seconds", "after.direction"),
    ),
    ("quota and count per subscriber", ("after.per", "after.every_s", "after.flows")),
    ("a clock per call", ("after.idle_s",)),
    ("media alone dropped", ("act.drop-media",)),
    ("a function in Python", ("act.censor",)),
    (
        "residual taint for a time",
        ("rule.lasts_s", "scope.client", "scope.server", "scope.pair", "scope.triple"),
    ),
    ("enforced now and then", ("rule.probability", "rule.per")),
    ("a box that sees one direction", ("sees.up", "sees.down")),
    ("fail-open, fail-closed", ("fail.open", "fail.closed")),
)
SCOPES: Rows = tuple(
    (word, (f"scope.{word}",))
    for word in ("packet", "flow", "call", "client", "pair", "server", "triple")
)
EVERY: Rows = (*MATCHES, *ACTS, *SCOPES)
