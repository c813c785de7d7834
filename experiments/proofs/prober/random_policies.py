# SPDX-License-Identifier: BSD-3-Clause
"""Policies drawn at random over the whole policy language, each with a call that it strikes.

A case has a kind: "clean" (no rule), "one" (one rule) or "two" (two rules). The match of a rule is
drawn around one packet of the call, so that it strikes; act, scope, window, residual time and
chance are drawn freely. A rule that strikes packets need not have an effect: a rate limit above
the rate of the call has none. Of such rules, a share of WITHOUT_EFFECT is kept in cases of one
rule, and none in cases of two. Equal seeds give equal cases.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.engine import Engine
from midcall.classifier.state.verdicts import APPS, ROLES, VERDICTS
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.payload_conditions import METHOD_WORDS
from midcall.experiments.probe.code_points import word_of
from midcall.experiments.proofs.localiser.random_calls import call
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, Sent, flows_of, packets_of_probe, probe_of
from midcall.testbed.probing.sockets import Played, play
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

#: Packets and seconds of a call that are used.
PACKETS, SECONDS = 150, 8.0
ACCESSES = ("3g", "4g", "adsl", "fibre", "wifi")
MOST_DRAWS = 400
#: Share of the rules without an effect on their call that a draw keeps.
WITHOUT_EFFECT = 0.15
#: Acts that strike a share of the packets.
BY_SHARE = ("loss", "duplicate", "corrupt", "reorder")
#: Share of the calls whose datagrams have code points, the code points that are drawn (EF, AF41,
#: CS5, AF11, LE), and octets of a payload from which a datagram is a large one.
MARKED, POINTS, LARGE = 0.3, (46, 34, 40, 10, 1), 300
#: Least change of a packet's delay that counts as an effect, in ns.
LEAST_DELAY = 10_000_000


class Case(NamedTuple):
    """One case of the benchmark: a policy, a call, and a line. effects: of each rule, whether the
    call's packets arrive otherwise than without it; sees: the only direction that the box sees."""

    name: str
    kind: str
    rules: tuple[Rule, ...]
    base: Probe
    access: str
    noise: Noise
    seed: int
    effects: tuple[bool, ...] = ()
    sees: Literal["up", "down"] | None = None

    @property
    def policy(self) -> Policy:
        """Return the policy."""
        return Policy(self.rules, sees=self.sees)


Draw = Callable[[random.Random, Sent, "Context"], dict[str, Any] | None]


class Context(NamedTuple):
    """What is known of the packet around which a match is drawn."""

    packets: int
    octets: int
    age: float
    app: str
    role: str
    verdict: str


def protocol(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw the transport."""
    return {"protocol": {TCP: "tcp", UDP: "udp"}.get(one.ends.proto, "other")}


def ports(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw ports: one, a range, or a list."""
    port = one.ends.far_port
    low, high = max(1, port - rng.choice((0, 10, 500))), min(65535, port + rng.choice((0, 20, 900)))
    span: int | str = port if low == high else f"{low}-{high}"
    return {"ports": [span, *rng.sample([7, 1723, "6881-6999"], rng.choice((0, 0, 1)))]}


def addresses(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a prefix of the far end."""
    size = len(one.ends.far) * 8
    bits = rng.choice((size, size - 8, size // 2))
    return {"addresses": [str(ipaddress.ip_network((one.ends.far, bits), strict=False))]}


def direction(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw the direction."""
    return {"direction": "up" if one.up else "down"}


def size(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a range of sizes."""
    own = len(one.payload)
    low, high = max(own - rng.choice((0, 8, 60)), 1), own + rng.choice((0, 8, 60))
    return {"size": rng.choice((f"{low}-", f"{low}-{high}", f"{low}-"))}


def stun(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw STUN, its method, or an attribute."""
    reading = read(one)
    if reading.method < 0:
        return None
    method = METHOD_WORDS.get(reading.method, reading.method)
    draws: list[dict[str, Any]] = [{"stun": True}, {"stun_method": [method]}]
    if reading.attributes:
        draws.append({"stun_attribute": [rng.choice(sorted(reading.attributes))]})
    return rng.choice(draws)


def payload(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw the kind of payload."""
    kind = read(one).kind
    more = rng.sample(["sip", "http", "channel"], rng.choice((0, 0, 1)))
    return {"payload": [kind, *(word for word in more if word != kind)]}


def name(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a server name, or a name that is asked for."""
    reading = read(one)
    if not reading.where or not reading.name:
        return None
    labels = reading.name.split(".")
    word = rng.choice((reading.name, "*." + ".".join(labels[-2:]), "*." + reading.name))
    if reading.where == "dns":
        return {"dns": [word]}
    result: dict[str, Any] = {"name": [word]}
    if rng.random() < 0.4:
        result["name_in"] = [reading.where]
    return result


def hello(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw the fingerprint of a hello."""
    reading = read(one)
    return {"hello": [f"{reading.hello:016x}"]} if reading.hello else None


def entropy(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a range of entropy."""
    value = read(one).entropy
    if not 0.2 < value <= 1.0 or len(one.payload) < 40:
        return None
    return {"entropy": f"{max(round(value - 0.05, 2), 0.05)}-"}


def app(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw app and role, by the classifier's word."""
    if about.app == "unknown" or about.verdict == "none":
        return None
    result: dict[str, Any] = {"app": [about.app]}
    if rng.random() < 0.3:
        result["role"] = [about.role]
    if about.verdict == "unsure" or rng.random() < 0.2:
        result["verdict"] = "unsure"
    return result


def window(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a window of packets, bytes or seconds of the flow."""
    which = rng.choice(("packets", "packets", "bytes", "seconds"))
    if which == "packets":
        return {"packets": f"{rng.randint(1, max(about.packets, 1))}-"}
    if which == "bytes":
        return {"bytes": f"{rng.randint(1, max(about.octets, 1))}-"}
    return {"seconds": f"{round(rng.uniform(0, about.age), 1)}-"}


def dscp(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw code points: that of a packet, and sometimes another one."""
    if not one.dscp:
        return None
    others = [number for number in POINTS if number != one.dscp]
    return {"dscp": [word_of(one.dscp), *map(word_of, rng.sample(others, rng.choice((0, 0, 1))))]}


OF_FLOW: tuple[Draw, ...] = (protocol, ports, addresses, direction, size, window)
INSIDE: tuple[Draw, ...] = (stun, stun, payload, name, name, hello, entropy, app, dscp, dscp)


def drawn_match(rng: random.Random, one: Sent, about: Context) -> dict[str, Any] | None:
    """Draw a match that a packet meets: mostly something inside the payload."""
    draws = [rng.choice(INSIDE)] if rng.random() < 0.75 else []
    draws += rng.sample(OF_FLOW, rng.choice((0, 0, 1, 1, 2)) if draws else rng.choice((1, 2)))
    result: dict[str, Any] = {}
    for draw in draws:
        part = draw(rng, one, about)
        if part is None:
            return None
        result |= part
    return result or None


def drawn_act(rng: random.Random, match: dict[str, Any]) -> dict[str, Any]:
    """Draw an act with its parameters."""
    acts = ["drop", "drop", "drop", "stall", "drop-media", "reset", "finish", "delay", "jitter",
            "loss", "loss", "police", "shape", "duplicate", "corrupt", "reorder",
            "unreachable", "mark", "prioritise"]  # fmt: skip
    if match.get("dns"):
        acts += ["dns-lie"] * 8
    if match.get("name") and match.get("name_in") == ["http"]:
        acts += ["block-page"] * 8
    act = rng.choice(acts)
    rule: dict[str, Any] = {"act": act}
    if act == "delay":
        rule["delay_ms"] = rng.choice((40, 80, 150, 300))
        if rng.random() < 0.4:
            rule["jitter_ms"] = rng.choice((5, 15, 30))
    elif act == "jitter":
        rule["jitter_ms"] = rng.choice((15, 30, 60, 100))
    elif act == "loss":
        rule["loss"] = rng.choice((0.1, 0.2, 0.35, 0.6, 0.9))
        if rng.random() < 0.3:
            rule["burst"] = rng.choice((3, 6))
    elif act == "police":
        rule |= {"rate_kbit": rng.choice((16, 32, 64, 128, 200)),
                 "bucket_bytes": rng.choice((1500, 3000, 8000))}  # fmt: skip
    elif act == "shape":
        rule |= {"rate_kbit": rng.choice((16, 32, 64, 128, 200)),
                 "queue_ms": rng.choice((50, 100, 250, 500))}  # fmt: skip
    elif act == "prioritise":
        points = rng.sample(POINTS, rng.choice((1, 2, 3)))
        rule |= {"rate_kbit": rng.choice((32, 64, 128, 200)), "first": list(map(word_of, points)),
                 "queue_ms": rng.choice((100, 250, 500))}  # fmt: skip
        if rng.random() < 0.2:
            rule["cross_kbit"] = round(rule["rate_kbit"] * rng.choice((0.2, 0.4)), 1)
    elif act == "mark":
        rule["code_point"] = word_of(rng.choice((0, *POINTS)))
    elif act in ("duplicate", "corrupt", "reorder"):
        rule["share"] = rng.choice((0.1, 0.25, 0.5))
        if act == "reorder":
            rule["delay_ms"] = rng.choice((40, 80, 150))
    elif act in ("reset", "finish"):
        rule["towards"] = rng.choice(("client", "server", "both", "both"))
        if act == "reset" and rng.random() < 0.2:
            rule["resets"] = [0, 1460, 2920]
    elif act == "dns-lie":
        rule["answer"] = rng.choice(("198.18.0.66", "nxdomain", "198.18.5.5"))
    if act in ("reset", "finish", "dns-lie", "block-page") and rng.random() < 0.4:
        rule["path"] = "on"
    return rule


def drawn_rest(rng: random.Random, rule: dict[str, Any]) -> None:
    """Draw scope, allowance, residual time, direction and chance."""
    if rule["act"] not in ("drop-media", "dns-lie", "mark"):
        wide = ("call", "client", "pair", "server", "triple")
        narrow = () if rule["act"] == "prioritise" else ("packet", "flow", "flow", "flow")
        scope = rng.choice((*narrow, *wide))
        if scope != "flow":
            rule["scope"] = scope
        if scope != "packet" and rng.random() < 0.3:
            rule["lasts_s"] = rng.choice((3.0, 10.0, 30.0, 60.0, 120.0))
    if rule["act"] == "stall" or rng.random() < 0.15:
        which = rng.choice(("packets", "bytes", "seconds"))
        rule["after"] = {which: {"packets": rng.randint(2, 20), "bytes": rng.randint(500, 6000),
                                 "seconds": rng.choice((0.5, 1.0, 2.0))}[which]}  # fmt: skip
    injects = rule["act"] in ("reset", "finish", "dns-lie", "block-page")
    if not injects and rng.random() < 0.25:
        rule["way"] = rng.choice(("up", "down"))
    if rng.random() < 0.15:
        rule["probability"] = rng.choice((0.3, 0.5, 0.7))
        rule["per"] = rng.choice(("flow", "client"))


def drawn_rule(rng: random.Random, base: Probe, number: int) -> Rule | None:
    """Draw a rule that is valid and has to do with one packet of a call."""
    one, about = drawn_packet(rng, base)
    match = drawn_match(rng, one, about)
    if match is None:
        return None
    rule = drawn_act(rng, match)
    drawn_rest(rng, rule)
    try:
        return Rule.model_validate(
            {"name": f"rule-{number}", "match": match, "grade": "C", "source": "drawn",
             "hypothesis": True, **rule}
        )  # fmt: skip
    except ValueError:
        return None


def drawn_packet(rng: random.Random, base: Probe) -> tuple[Sent, Context]:
    """Draw a packet with a payload, and what is known of it."""
    flow = rng.choice(flows_of(base))
    own = [one for one in base if one.ends == flow]
    places = [at for at, one in enumerate(own) if one.payload] or [0]
    at = rng.choice(places[:12]) if rng.random() < 0.7 else rng.choice(places)
    engine = Engine(room=64)
    packets = packets_of_probe(tuple(own[: at + 1]))
    numbers = engine.feed(packets)
    record = engine.tables.flows[int(numbers[-1])]
    octets = int(packets.captured.sum())
    return own[at], Context(
        at + 1, octets, (own[at].time - own[0].time) / 1e9, APPS[int(record["app"])],
        ROLES[int(record["role"])], VERDICTS[int(record["verdict"])],
    )  # fmt: skip


# ---- cases


def shortened(probe: Probe) -> Probe:
    """Return the first packets of a call."""
    return tuple(one for one in probe if one.time <= SECONDS * 1e9)[:PACKETS]


def marked(rng: random.Random, base: Probe) -> Probe:
    """Return a call whose small and large datagrams of each flow have drawn code points."""
    points = {(ends, large): rng.choice((0, *POINTS)) for ends in flows_of(base)
              for large in (False, True)}  # fmt: skip
    return tuple(
        one._replace(dscp=points[one.ends, len(one.payload) >= LARGE])
        if one.ends.proto != TCP else one
        for one in base
    )  # fmt: skip


def drawn_noise(rng: random.Random) -> Noise:
    """Draw background noise: loss 0 to 5 %, jitter, reordering, a NAT."""
    return Noise(
        loss=rng.choice((0.0, 0.005, 0.01, 0.02, 0.03, 0.05)),
        jitter_ms=rng.choice((0, 0, 3, 8, 15)),
        reorder=rng.choice((0.0, 0.0, 0.01)),
        nat=rng.random() < 0.2,
    )


def case(seed: int, number: int, kind: str) -> Case:
    """Return a case, on a made call."""
    rng = random.Random(f"drawn policy/{seed}/{number}/{kind}")
    for _ in range(MOST_DRAWS):
        base = shortened(probe_of(scene(call(rng))))
        if rng.random() < MARKED:
            base = marked(rng, base)
        access = rng.choice(ACCESSES)
        noise = drawn_noise(rng)
        rules: list[Rule] = []
        wanted = {"clean": 0, "one": 1, "two": 2}[kind]
        for place in range(wanted):
            rule = drawn_rule(rng, base, place + 1)
            if rule is not None:
                rules.append(rule)
        result = Case(f"{kind}-{number}", kind, tuple(rules), base, access, noise, seed + number)
        if len(rules) != wanted or not all(strikes(result, one) for one in rules):
            continue
        result = result._replace(effects=effects_of(result))
        if all(result.effects) or (kind == "one" and rng.random() < WITHOUT_EFFECT):
            return result
    raise AssertionError(f"no case of kind {kind} was drawn in {MOST_DRAWS} attempts")


def effects_of(about: Case) -> tuple[bool, ...]:
    """Return of each rule whether the call arrives otherwise with it than with the other rules
    alone, and with it alone than without rules. Rules are enforced with chance 1, and an act that
    strikes a share of packets strikes all."""
    rules = tuple(one.model_copy(update={"probability": 1.0}) for one in about.rules)
    whole = arrivals(about, rules)
    result = []
    for number, rule in enumerate(rules):
        rest = rules[:number] + rules[number + 1 :]
        if rule.act in BY_SHARE:  # by chance, a short call may have none of the packets
            certain = rule.model_copy(update={"loss": 1.0, "share": 1.0, "burst": 0.0})
            whole_of = arrivals(about, (*rules[:number], certain, *rules[number + 1 :]))
        else:
            whole_of = whole
        alone = differ(arrivals(about, ()), arrivals(about, (rule,))) or rule.act in BY_SHARE
        result.append(alone and differ(arrivals(about, rest), whole_of))
    return tuple(result)


def arrivals(about: Case, rules: tuple[Rule, ...]) -> Played:
    """Return the call over a line without noise."""
    line = VirtualSockets(Policy(rules), about.access, about.seed, ideal=True)
    return play(line, about.base, 2_500_000_000)


def differ(one: Played, other: Played) -> bool:
    """Return whether two plays of a call differ in arrivals, forged answers, delays, or code
    points."""
    kinds = [[event.kind for event in play_.events] for play_ in (one, other)]
    if sorted(kinds[0]) != sorted(kinds[1]) or len(one.strange) != len(other.strange):
        return True
    if one.twice != other.twice or one.points != other.points:
        return True
    delays = [[play_.delay(at) for at in range(len(play_.plan))] for play_ in (one, other)]
    return any((a < 0) != (b < 0) or abs(a - b) > LEAST_DELAY for a, b in zip(*delays, strict=True))


def strikes(about: Case, rule: Rule) -> bool:
    """Return whether a rule strikes a packet of the call that a socket can send.

    Its act is replaced by a drop, which shows in every packet.
    """
    if rule.act == "drop-media":
        act: dict[str, object] = {"act": "drop-media"}
    else:
        act = {"act": "drop", "probability": 1.0, "scope": rule.strikes}
    shown = rule.model_copy(update=act)
    counts = [sum(at >= 0 for at in arrivals(about, rules).arrived) for rules in ((), (shown,))]
    return counts[1] < counts[0]
