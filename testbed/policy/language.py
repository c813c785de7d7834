# SPDX-License-Identifier: BSD-3-Clause
"""The policy language: what a rule can match in a packet, and what it can do.

No packet evidence of the mechanisms is public, so a rule states its evidence grade, its source, and
`hypothesis = true`. Evidence grades: A measured or peer-reviewed; B packet captures or developers'
reverse engineering; C users' symptoms or press; D legal or official text.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from math import inf
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from midcall.access import Access
from midcall.captures.truth.strict_toml import Table
from midcall.classifier.state.verdicts import APPS, ROLES
from midcall.testbed.network.link import Link
from midcall.testbed.policy.syntax import (
    HELLO,
    NAME,
    code_point,
    host_address,
    hours,
    known_words,
    port_range,
    prefix,
    span,
    within,
)

Grade = Literal["A", "B", "C", "D"]
Act = Literal[
    "pass", "drop", "stall", "drop-media", "dns-lie", "reset", "finish", "block-page",
    "unreachable", "mark", "duplicate", "corrupt", "delay", "jitter", "loss", "police",
    "shape", "prioritise", "reorder", "censor",
]  # fmt: skip
#: Every act; its position is its number in the rule table.
ACTS: tuple[Act, ...] = get_args(Act)
Scope = Literal["packet", "flow", "call", "client", "pair", "server", "triple"]

#: Payload kinds; the bit of a kind in a rule is its position.
PAYLOADS = ("unknown", "stun", "channel", "dtls-hello", "dtls", "rtp", "rtcp", "quic", "tls-hello",
            "tls", "dns", "sip", "http")  # fmt: skip
#: STUN and TURN methods by name (RFC 8489 section 18.2, RFC 8656 section 18.1).
METHODS = {"binding": 1, "allocate": 3, "refresh": 4, "send": 6, "data": 7, "create-permission": 8,
           "channel-bind": 9}  # fmt: skip
#: Acts that send frames with a forged sender.
INJECTED = ("dns-lie", "reset", "finish", "block-page", "unreachable")
#: Acts that may send such frames.
FORGING = (*INJECTED, "duplicate", "corrupt", "censor")
#: Acts that decide each packet separately.
BY_PACKET = ("drop-media", "dns-lie", "mark", "censor")
#: Keys that an act requires, and keys that it allows.
PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "delay": (("delay_ms",), ("jitter_ms",)),
    "jitter": (("jitter_ms",), ()),
    "loss": (("loss",), ("burst",)),
    "police": (("rate_kbit", "bucket_bytes"), ()),
    "shape": (("rate_kbit", "queue_ms"), ()),
    "dns-lie": ((), ("answer",)),
    "mark": (("code_point",), ()),
    "duplicate": (("share",), ()),
    "corrupt": (("share",), ()),
    "prioritise": (("rate_kbit", "queue_ms", "first"), ("cross_kbit",)),
    "reorder": (("share", "delay_ms"), ()),
    "censor": (("file",), ()),
    "reset": ((), ("towards", "resets", "hops", "ip_id")),
    "finish": ((), ("towards", "hops", "ip_id")),
    "block-page": ((), ("hops", "ip_id")),
    "unreachable": ((), ("code",)),
}


#: The largest values that a box can count with, all far beyond any real network: kbit/s, octets of
#: a bucket, ms in a queue, seconds, packets or octets of a flow, packets of a bad time.
MOST_KBIT, MOST_BUCKET, MOST_QUEUE_MS = 1e9, 10**9, 3_600_000
MOST_SECONDS, MOST_COUNT, MOST_BURST = 1e9, 10**15, 1e9
#: Resets for one packet, at most, and octets that one may lie ahead of what its receiver expects.
MOST_RESETS, MOST_AHEAD = 8, 1 << 20
#: The shortest time of a rule that comes and goes, s.
LEAST_PHASE = 0.001
#: The rarest sample, one packet in so many.
MOST_ONE_IN = 1_000_000
#: The same for each range of a match.
MOST = {"size": MOST_COUNT, "packets": MOST_COUNT, "bytes": MOST_COUNT,
        "seconds": MOST_SECONDS, "entropy": MOST_SECONDS}  # fmt: skip


#: Fields of a rule: a share of packets, a time.
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, le=MOST_SECONDS)]


class Match(Table):
    """Conditions on a packet: every key present must hold; of a list, one entry is enough.

    A range is written `"200-"`, `"-200"`, `"100-200"` or `200`, both ends included.
    """

    app: list[str] = Field(default=[], description="apps, as the classifier names the flow")
    role: list[str] = Field(
        default=[],
        description="what the flow is for: media, setup, control, messaging or other",
    )
    verdict: Literal["unsure", "certain"] = Field(
        default="certain", description="how sure the classifier must be of app and role, at least"
    )
    stun: bool | None = Field(
        default=None,
        description="whether the payload is STUN (RFC 8489): the magic cookie at offset 4, or at "
        "offset 6 behind the length of RFC 4571, over UDP or TCP, on any port",
    )
    stun_method: list[str | int] = Field(
        default=[],
        description="STUN and TURN methods, by name (binding, allocate, refresh, send, data, "
        "create-permission, channel-bind) or by number, the message type without its class bits "
        "(type 0x0802 is method 0x202); requests and answers alike",
    )
    stun_attribute: list[int] = Field(
        default=[], description="types of STUN attributes, one of which the message must hold"
    )
    payload: list[str] = Field(
        default=[],
        description="what one packet's payload looks like: stun, channel (TURN ChannelData), "
        "dtls-hello, dtls, rtp, rtcp, quic, tls-hello, tls, dns, sip, http, or unknown, which is "
        "none of them (the table above gives the octets)",
    )
    name: list[str] = Field(
        default=[],
        description="server names in TLS, QUIC and HTTP: `host.example` is that name, "
        "`*.host.example` that name and every name under it",
    )
    name_in: list[Literal["tls", "quic", "http"]] = Field(
        default=[], description="where `name` is looked for; left out, in all three"
    )
    dns: list[str] = Field(
        default=[], description="names that a DNS question asks for, over UDP and port 53"
    )
    resolved: list[str] = Field(
        default=[],
        description="names for which a DNS answer, over UDP and port 53, gave the address of the "
        "end away from the subscriber; the box learns from every answer that it sees, whoever "
        "asked",
    )
    hello: list[str] = Field(
        default=[],
        description="fingerprints of ClientHellos of TLS, DTLS and QUIC, 16 hexadecimal digits "
        "each, as `midcall policy hellos CAPTURE` lists them; a hello of several packets is met by "
        "the packet that completes it",
    )
    addresses: list[str] = Field(
        default=[],
        description="prefixes, or names of [[set]]s, of the end away from the subscriber",
    )
    ports: list[int | str] = Field(
        default=[], description="ports, or ranges, of the end away from the subscriber"
    )
    protocol: Literal["tcp", "udp", "other"] | None = Field(
        default=None, description="of the transport; `other` is neither TCP nor UDP"
    )
    size: int | str | None = Field(
        default=None,
        description="range of payload octets behind the transport's header, as many as this "
        "IP packet holds (of a fragmented datagram: its first fragment)",
    )
    direction: Literal["up", "down"] | None = Field(
        default=None,
        description="of the packet: up is away from the subscriber, as chosen in [which end is the "
        "subscriber](#which-end-is-the-subscriber)",
    )
    packets: int | str | None = Field(
        default=None,
        description="range of packets of the flow so far, both directions, this one included",
    )
    bytes: int | str | None = Field(
        default=None,
        description="range of IP bytes of the flow so far, both directions, this packet included",
    )
    seconds: float | str | None = Field(
        default=None, description="range of the flow's age when the packet comes"
    )
    dscp: list[int | str] = Field(
        default=[],
        description="Differentiated Services code points of the innermost IP header (RFC 2474), "
        "0 to 63, or by name: ef, va, le, cs0 to cs7, af11 to af43",
    )
    one_in: int = Field(
        default=1,
        ge=1,
        le=MOST_ONE_IN,
        description="inspects one packet in so many, drawn at random for each packet; the others "
        "do not meet the match",
    )
    entropy: float | str | None = Field(
        default=None,
        description="range, within 0 and 1, of the Shannon entropy of the payload's n octets (the "
        "first 1,024) divided by log2(min(n, 256)), the most that n octets can have",
    )

    @field_validator("app")
    @classmethod
    def _apps(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @field_validator("role")
    @classmethod
    def _roles(cls, words: list[str]) -> list[str]:
        return known_words(words, ROLES)

    @field_validator("payload")
    @classmethod
    def _payloads(cls, words: list[str]) -> list[str]:
        return known_words(words, PAYLOADS)

    @field_validator("stun_method")
    @classmethod
    def _methods(cls, words: list[str | int]) -> list[str | int]:
        known_words([word for word in words if isinstance(word, str)], tuple(METHODS))
        return words

    @field_validator("name", "dns", "resolved")
    @classmethod
    def _names(cls, words: list[str]) -> list[str]:
        for word in words:
            if not NAME.fullmatch(word):
                raise ValueError(
                    f"got {word!r}, expected a host name in lower case, or *. and a host name"
                )
        return words

    @field_validator("dscp")
    @classmethod
    def _code_points(cls, words: list[int | str]) -> list[int | str]:
        for word in words:
            code_point(word)
        return words

    @field_validator("hello")
    @classmethod
    def _hellos(cls, words: list[str]) -> list[str]:
        for word in words:
            if not HELLO.fullmatch(word):
                raise ValueError(f"got {word!r}, expected 16 hexadecimal digits in lower case")
        return words

    @field_validator("ports")
    @classmethod
    def _ports(cls, words: list[int | str]) -> list[int | str]:
        for word in words:
            port_range(word)
        return words

    @field_validator("addresses")
    @classmethod
    def _prefixes(cls, words: list[str]) -> list[str]:
        for word in words:
            if "/" in word or word[:1].isdigit():
                prefix(word)
        return words

    @field_validator("size", "packets", "bytes", "seconds", "entropy")
    @classmethod
    def _ranges(cls, word: float | str | None, info: ValidationInfo) -> float | str | None:
        if word is not None:
            most = MOST[str(info.field_name)]
            low, high = span(word)
            if not (low <= most and (high <= most or high == inf)) or low == inf:
                raise ValueError(f"got {word!r}, expected numbers of at most {most:.0f}")
        return word

    @field_validator("stun_method", "stun_attribute")
    @classmethod
    def _types(cls, words: list[Any]) -> list[Any]:
        for word in words:
            if isinstance(word, int) and not 0 <= word <= 0xFFFF:
                raise ValueError(f"got {word}, expected a number from 0 to 65535")
        return words

    @model_validator(mode="after")
    def _sound(self) -> Match:
        if self.name_in and not self.name:
            raise ValueError("name_in says where `name` is looked for, and there is no `name`")
        if "verdict" in self.model_fields_set and not self.flow_words:
            raise ValueError("verdict says how sure app or role must be, and neither is there")
        return self

    @property
    def flow_words(self) -> bool:
        """Tell whether the match needs the classifier's verdict on the flow."""
        return bool(self.app or self.role)


class After(Table):
    """What a flow may still send, counted from its first packet that met the match, inclusive.

    Of several limits, all must be exceeded. With `per`, the flows of a wider subject that met the
    match count together: a quota of a client, or the clock of a call.
    """

    packets: int = Field(default=0, ge=0, le=MOST_COUNT, description="packets that still pass")
    bytes: int = Field(default=0, ge=0, le=MOST_COUNT, description="IP bytes that still pass")
    seconds: Seconds = Field(default=0.0, description="time in which packets still pass")
    flows: int = Field(
        default=0,
        ge=0,
        le=MOST_COUNT,
        description="flows of the subject that still pass, in the order in which they met the "
        "match; needs `per`",
    )
    direction: Literal["up", "down"] | None = Field(
        default=None, description="counts packets and bytes of this direction alone"
    )
    per: Literal["flow", "call", "client", "pair", "server", "triple"] = Field(
        default="flow", description="whose packets, bytes, seconds and flows are counted, a scope"
    )
    every_s: Seconds = Field(
        default=0.0,
        description="seconds after which the count starts again (a quota per hour or day); "
        "left out, never; needs `per`",
    )
    idle_s: Seconds = Field(
        default=0.0,
        description="seconds without a packet of a flow that met the match after which the count "
        "starts again (the next call has a clock of its own); left out, never; needs `per`",
    )

    @model_validator(mode="after")
    def _sound(self) -> After:
        if not (self.packets or self.bytes or self.seconds or self.flows):
            raise ValueError("give packets, bytes, seconds or flows")
        if self.per == "flow":
            for key in ("flows", "every_s", "idle_s"):
                if getattr(self, key):
                    raise ValueError(
                        f'{key} counts a subject of several flows; give per, such as "client"'
                    )
        if self.direction and not (self.packets or self.bytes):
            raise ValueError("direction says which packets or bytes count, and neither is there")
        return self


class Rule(Table):
    """One rule: its match, its act, the scope of the act, and how well that is documented."""

    name: str = Field(description="its name, which results and taps show")
    match: Match = Field(description="what a packet must meet")
    act: Act = Field(description="what is done")
    scope: Scope = Field(
        default="flow",
        description="whom a match condemns from then on: the packet alone, its flow, call (a "
        "client's flows of one app), client, server, pair (a client and a server), or triple (a "
        "client, a server and the server's port, of one transport); dns-lie, drop-media, mark and "
        'censor are applied packet by packet: leave scope out, or give `"packet"`',
    )
    lasts_s: float | None = Field(
        default=None,
        gt=0.0,
        le=MOST_SECONDS,
        description="seconds after which a condemnation ends (residual censorship); each packet "
        "that meets the match restarts it; left out, it never ends",
    )
    after: After | None = Field(
        default=None,
        description="what the flow that met the match may still do before the act begins; with a "
        "wider scope, too, the condemnation begins with the first packet of this flow behind it",
    )
    way: Literal["up", "down"] | None = Field(
        default=None,
        description="acts on packets of this direction alone, whatever matched; the other "
        "direction of a condemned flow is delivered, and no later rule is asked about it",
    )
    probability: float = Field(
        default=1.0, gt=0.0, le=1.0, description="of enforcement, drawn once per flow or client"
    )
    per: Literal["flow", "client"] = Field(
        default="flow", description="what `probability` is drawn for"
    )
    access: list[Access] = Field(
        default=[], description="access networks it holds on; left out, on all"
    )
    begin: datetime.date | None = Field(
        default=None, alias="from", description="first day on which it holds"
    )
    end: datetime.date | None = Field(
        default=None, alias="to", description="day from which it holds no more"
    )
    hours: list[str] = Field(
        default=[],
        description="times of day at which it holds, on the clock of the operator's country, the "
        'end excluded: `"18:00-24:00"`, also over midnight: `"22:00-06:00"` is until 06:00 and '
        "from 22:00 on each day from `from` to `to`. A policy is chosen once for a run; where the "
        "run has no time of day, the policy has the rule",
    )
    on_s: Seconds = Field(
        default=0.0,
        description="seconds in which it meets packets, counted from the box's first packet, in "
        "turn with `off_s`; what it condemned stays condemned",
    )
    off_s: Seconds = Field(
        default=0.0,
        description="seconds in which it meets none, after each `on_s`",
    )
    delay_ms: float = Field(
        default=0.0, ge=0.0, le=60_000, description="mean delay, or that of reordered packets"
    )
    jitter_ms: float = Field(
        default=0.0, ge=0.0, le=10_000, description="standard deviation of the delay"
    )
    loss: Share = Field(default=0.0, description="share of packets lost")
    share: Share = Field(
        default=0.0,
        description="share of packets that come twice, with one bit of their payload changed (the "
        "checksum stays, so the receiver counts as one that discards the packet, also where UDP "
        "over IPv4 has no checksum), or `delay_ms` after those behind them",
    )
    burst: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_BURST,
        description="packets that a bad time lasts on average (Gilbert and Elliott); left out, "
        "losses are independent",
    )
    rate_kbit: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_KBIT,
        description="kbit/s of IP packets that get through, each direction",
    )
    bucket_bytes: int = Field(
        default=0, ge=0, le=MOST_BUCKET, description="depth of the policer's bucket"
    )
    queue_ms: float = Field(
        default=0.0, ge=0.0, le=MOST_QUEUE_MS, description="longest wait in the queue"
    )
    first: list[int | str] = Field(
        default=[],
        description="code points, as in `match.dscp`, whose packets leave the queue first: they "
        "wait for earlier ones of this kind and for the packet that is being sent",
    )
    cross_kbit: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_KBIT,
        description="kbit/s that others send through the same queue, in each direction: packets of "
        "1,500 bytes that come at random (a Poisson process) and have no priority",
    )
    path: Literal["in", "on"] = Field(
        default="in",
        description="in: the box stands in the way, and what it answers itself goes no further; "
        "on: it sees a copy, so the original passes and it can only inject",
    )
    towards: Literal["client", "server", "both"] = Field(
        default="both", description="who gets the forged reset or FIN"
    )
    resets: list[int] = Field(
        default=[0],
        description="one reset for each entry: its sequence number, in octets beyond the one that "
        "its receiver expects; the first entry is 0. A receiver obeys only a reset with the exact "
        "number (RFC 9293 section 3.10.7.4), so the others are for data that is under way",
    )
    hops: int | Literal["own"] = Field(
        default=64,
        description="TTL or hop limit of a forged segment, 1 to 255; own: that of the last packet "
        "that the box saw in the flow from the end whose address it uses, 64 where it saw none",
    )
    ip_id: int | Literal["own"] = Field(
        default=0,
        description="IPv4 identification of a forged segment, 0 to 65535; own: goes on from the "
        "last one that the box saw in the flow from the end whose address it uses, 0 where it saw "
        "none",
    )
    code: Literal["net", "host", "port", "prohibited"] = Field(
        default="prohibited",
        description="what the ICMP message says is unreachable or prohibited (RFC 792, RFC 1812, "
        "RFC 4443)",
    )
    code_point: int | str = Field(
        default=0,
        description="what the packet is marked with, as in `match.dscp`; the rules behind see it",
    )
    answer: str = Field(
        default="198.18.0.66",
        description="the address in a false DNS answer (or `nxdomain`); a question for the other "
        "family gets an address of the lab",
    )
    file: str = Field(
        default="",
        description="a censor in Python, in the folder of the policy's file or below it "
        "(docs/reference/censors.md)",
    )
    digest: str = Field(default="", exclude=True, description="of that file; the lab fills it in")
    grade: Grade = Field(description="evidence grade, A to D")
    source: str = Field(description="who says so")
    hypothesis: bool = Field(default=False, description="true: no packet evidence is public")
    aims: list[str] = Field(
        default=[], description="apps the rule is meant for, where `match.app` does not say"
    )
    note: str = Field(default="", description="anything else")

    @field_validator("hours")
    @classmethod
    def _hours(cls, words: list[str]) -> list[str]:
        for word in words:
            hours(word)
        return words

    @field_validator("first")
    @classmethod
    def _first(cls, words: list[int | str]) -> list[int | str]:
        for word in words:
            code_point(word)
        return words

    @field_validator("code_point")
    @classmethod
    def _code_point(cls, word: int | str) -> int | str:
        code_point(word)
        return word

    @field_validator("aims")
    @classmethod
    def _aims(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        keys = self.match.model_dump(exclude_defaults=True)
        if not keys and self.act != "censor":
            raise ValueError("match is empty and would meet every packet; say what it must meet")
        if self.act == "dns-lie" and not self.match.dns:
            raise ValueError("act dns-lie needs match.dns, the names to lie about")
        if self.act in BY_PACKET and self.scope != "packet" and "scope" in self.model_fields_set:
            raise ValueError(
                f'act {self.act} is decided packet by packet; leave scope out, or give "packet"'
            )
        if self.lasts_s is not None and self.strikes == "packet":
            raise ValueError(
                "lasts_s needs a scope that lasts: flow, call, client, server, pair or triple"
            )
        if self.begin is not None and self.end is not None and self.end <= self.begin:
            raise ValueError(f"from {self.begin} to {self.end} holds no day; `to` is excluded")
        if max(self.on_s, self.off_s) > 0 and min(self.on_s, self.off_s) < LEAST_PHASE:
            raise ValueError(
                "on_s and off_s go in turn; give both, or neither, and no less than a millisecond"
            )
        if self.path == "on" and self.act not in INJECTED:
            raise ValueError(
                f"path on sees copies and can only inject ({', '.join(INJECTED)}), not {self.act}"
            )
        if self.act == "stall" and self.after is None:
            raise ValueError("act stall needs after: what the flow may still do")
        if self.act == "block-page" and self.match.name_in != ["http"]:
            raise ValueError('act block-page answers HTTP; give match.name and name_in = ["http"]')
        if self.resets[:1] != [0] or not all(0 <= one <= MOST_AHEAD for one in self.resets):
            raise ValueError(f"resets: got {self.resets}, expected 0, then 0 to {MOST_AHEAD}")
        if len(self.resets) > MOST_RESETS:
            raise ValueError(
                f"resets: got {len(self.resets)} entries, expected at most {MOST_RESETS}"
            )
        if self.hops != "own" and not 1 <= self.hops <= 255:
            raise ValueError(f"hops: got {self.hops}, expected a number from 1 to 255, or own")
        if self.ip_id != "own" and not 0 <= self.ip_id <= 0xFFFF:
            raise ValueError(f"ip_id: got {self.ip_id}, expected a number from 0 to 65535, or own")
        if self.answer != "nxdomain":
            host_address(self.answer)
        if "digest" in self.model_fields_set:
            raise ValueError("digest: unknown key; the lab finds it out")
        for problem in parameter_problems(self.act, self.model_fields_set):
            raise ValueError(problem)
        if self.act == "prioritise" and self.scope in ("packet", "flow"):
            raise ValueError(
                "act prioritise is one queue for several flows; give scope client, call, pair, "
                "server or triple"
            )
        if self.act == "prioritise" and not (self.first and self.rate_kbit):
            raise ValueError("act prioritise needs a rate_kbit above 0 and a code point in first")
        return self

    def holds(self, access: str, date: datetime.date, clock: datetime.time | None = None) -> bool:
        """Tell whether the rule is in force on an access network on a day.

        clock: the time of day, None for one at which every rule with `hours` is in force.
        """
        if clock is not None and self.hours:
            second = clock.hour * 3600 + clock.minute * 60 + clock.second
            if not any(within(second, *hours(word)) for word in self.hours):
                return False
        late = self.begin is not None and date < self.begin
        over = self.end is not None and date >= self.end
        return not late and not over and (not self.access or access in self.access)

    @property
    def strikes(self) -> Scope:
        """Return the scope that a match affects."""
        return "packet" if self.act in BY_PACKET else self.scope

    @property
    def aimed_at(self) -> list[str]:
        """Return the apps that this rule targets; [] for all."""
        return self.aims or self.match.app

    @property
    def reads(self) -> frozenset[str]:
        """Return which fields of a packet the rule reads, as the words of catalogue.CHANGES."""
        match, after = self.match, self.after
        censor, words = self.act == "censor", match.flow_words
        kinds = bool(match.stun_method or match.payload) or match.stun is not None
        whole = bool(match.stun_attribute or match.hello) or match.entropy is not None
        asks = {
            "addresses": bool(match.addresses or match.resolved),
            "ports": bool(match.ports),
            "names": bool(match.name or match.dns or match.resolved),
            "payload": kinds or whole or words or censor or self.act == "drop-media",
            "tails": whole or words or censor or bool(match.name or match.dns),
            "sizes": match.size is not None or match.bytes is not None
            or bool(after and after.bytes),
            "times": match.seconds is not None or bool(self.on_s)
            or bool(after and (after.seconds or after.every_s or after.idle_s)),
        }  # fmt: skip
        return frozenset(word for word, yes in asks.items() if yes)

    @property
    def link(self) -> Link:
        """Return the act's delay, loss and rate as a link; one without effect for other acts."""
        policing, late = self.act == "police", self.act == "reorder"
        return Link(
            delay_ms=3.5 * self.jitter_ms if self.act == "jitter" else 0 if late else self.delay_ms,
            jitter_ms=self.jitter_ms,
            loss=self.loss,
            burst=self.burst,
            rate_kbit=0.0 if policing else self.rate_kbit,
            queue_ms=self.queue_ms,
            police_kbit=self.rate_kbit if policing else 0.0,
            bucket_bytes=self.bucket_bytes,
            reorder=self.share if late else 0.0,
            reorder_ms=self.delay_ms if late else 0.0,
            cross_kbit=self.cross_kbit,
            first=tuple(code_point(word) for word in self.first),
        )


def parameter_problems(act: str, present: set[str]) -> Iterator[str]:
    """Yield the keys that an act lacks, and those that do not apply to it, one sentence each."""
    needed, optional = PARAMETERS.get(act, ((), ()))
    for key in needed:
        if key not in present:
            yield f"act {act} needs {key}"
    known = {key for both in PARAMETERS.values() for keys in both for key in keys}
    for key in sorted(known & present - {*needed, *optional}):
        yield f"{key} says nothing about act {act}; leave it out"
