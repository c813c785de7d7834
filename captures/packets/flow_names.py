# SPDX-License-Identifier: BSD-3-Clause
"""The texts that name a flow (`--flow`): numbers, both ends, and display filters of Wireshark.

Of the language of display filters the part is read that can name one flow: comparisons of
addresses, ports, streams and frames for equality, joined by `&&` or `and`, in parentheses or not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from midcall.captures.packets.headers import End

Side = Literal["any", "source", "target"]

ENDS = re.compile(
    r"^(?P<proto>[\w-]+) +(?P<a>\[[0-9a-fA-F:.]+\]|[\d.]+):(?P<ap>\d+)"
    r" *(?:-|<->|->) *(?P<b>\[[0-9a-fA-F:.]+\]|[\d.]+):(?P<bp>\d+)$"
)
TOKEN = re.compile(r"\s*(&&|\|\||==|!=|>=|<=|[()!<>]|[^\s()&|=!<>]+)")
#: Words of display filters that never name one flow.
SEVERAL = ("||", "or", "!", "not", "!=", "ne", ">", "<", ">=", "<=", "gt", "lt", "ge", "le", "in")
#: What a display filter begins with, or contains.
FILTER = re.compile(
    r"&&|\|\||==|!=|^[\s(!]*(?:not\s+)?(?:ip|ipv6|udp|tcp|sctp|icmp|icmpv6|frame|eth)\b(?! +[\d\[])"
)
FILTER_FORM = "a display filter such as 'ip.addr==192.0.2.1 && udp.port==5000' or 'udp.stream eq 3'"
#: Fields of addresses and of ports, with the side of the packet that they mean.
SIDES: dict[str, Side] = {"addr": "any", "src": "source", "dst": "target"}
PORTS: dict[str, Side] = {"port": "any", "srcport": "source", "dstport": "target"}
TRANSPORTS = ("udp", "tcp", "sctp")
WORDS = (*TRANSPORTS, "ip", "ipv6", "icmp", "icmpv6")
KNOWN = (
    "ip.addr, ip.src, ip.dst, ipv6.addr, ipv6.src, ipv6.dst, udp.port, udp.srcport, udp.dstport, "
    "udp.stream (and those of tcp), frame.number"
)


class Ended(Protocol):
    """A flow: its transport and both ends."""

    @property
    def proto(self) -> str:
        """Return the transport's name."""

    @property
    def source(self) -> End:
        """Return the end that sent the first packet."""

    @property
    def target(self) -> End:
        """Return the other end."""


class Condition(NamedTuple):
    """A comparison of a display filter: an address prefix or a port of one side of a packet."""

    side: Side
    network: Any = None  # ipaddress.IPv4Network or IPv6Network
    port: int | None = None

    def holds(self, source: End, target: End) -> bool:
        """Return whether a packet from one end to another meets it."""
        asked = {"any": (source, target), "source": (source,), "target": (target,)}[self.side]
        return any(self.meets(end) for end in asked)

    def meets(self, end: End) -> bool:
        """Return whether an end meets it."""
        if self.network is None:
            return end[1] == self.port
        address = ipaddress.ip_address(end[0])
        return address.version == self.network.version and address in self.network


class FlowName(NamedTuple):
    """What a text names: a number, or everything else that is not empty, all of which must hold."""

    number: int | None = None
    protocols: tuple[str, ...] = ()
    both: frozenset[End] | None = None
    conditions: tuple[Condition, ...] = ()
    streams: tuple[tuple[str, int], ...] = ()
    frames: tuple[int, ...] = ()

    def meets(self, flow: Ended) -> bool:
        """Return whether a flow has the named transport, ends, addresses and ports."""
        if any(not same_protocol(word, flow) for word in self.protocols):
            return False
        if self.both is not None:
            return frozenset((flow.source, flow.target)) == self.both
        return any(
            all(one.holds(source, target) for one in self.conditions)
            for source, target in ((flow.source, flow.target), (flow.target, flow.source))
        )


def same_protocol(word: str, flow: Ended) -> bool:
    """Return whether a flow is of a protocol, by the word for it."""
    if word in ("ip", "ipv6"):
        return len(flow.source[0]) == (4 if word == "ip" else 16)
    if word in ("icmp", "icmpv6"):
        return flow.proto in ("icmp", word)
    return flow.proto == word


def parse(text: str, form: str) -> FlowName:
    """Return what a text names; raises ValueError, which says what is wrong with it.

    form: the forms that the caller accepts, for messages.
    """
    text = text.strip()
    if text.isdecimal() and text.isascii():
        return FlowName(number=int(text))
    parsed = ENDS.match(text)
    if parsed is not None:
        both = frozenset(
            (ipaddress.ip_address(parsed[end].strip("[]")).packed, int(parsed[f"{end}p"]))
            for end in ("a", "b")
        )
        return FlowName(protocols=(parsed["proto"].lower(),), both=both)
    if FILTER.search(text) is None:
        raise ValueError(f"expected {form}")
    return parse_filter(text)


def parse_filter(text: str) -> FlowName:
    """Return what a display filter names; raises ValueError."""
    words = [word for word in TOKEN.findall(text) if word]
    if "".join(words) != re.sub(r"\s", "", text):
        raise ValueError(f"the display filter cannot be read; expected {FILTER_FORM}")
    depth, at, result = 0, 0, FlowName()
    expects_term = True
    while at < len(words):
        word = words[at].lower()
        if word == "(" and expects_term:
            depth, at = depth + 1, at + 1
        elif word == ")" and not expects_term and depth:
            depth, at = depth - 1, at + 1
        elif word in ("&&", "and") and not expects_term:
            expects_term, at = True, at + 1
        elif word in SEVERAL or (expects_term and at + 1 < len(words) and words[at + 1] in SEVERAL):
            wrong = words[at] if word in SEVERAL else words[at + 1]
            raise ValueError(f"{wrong!r} names more than one flow; compare with ==, join with &&")
        elif expects_term:
            compared = at + 2 < len(words) and words[at + 1].lower() in ("==", "eq")
            result = with_term(result, word, words[at + 2] if compared else None)
            expects_term, at = False, at + (3 if compared else 1)
        else:
            raise ValueError(f"{words[at]!r} is out of place in the display filter")
    if depth or expects_term:
        raise ValueError("the display filter ends too early")
    return result


def with_term(name: FlowName, field: str, value: str | None) -> FlowName:
    """Return a name with one more comparison; raises ValueError."""
    if value is None:
        if field not in WORDS:
            raise ValueError(f"display filter: {field!r} is not understood; known: {KNOWN}")
        return name._replace(protocols=(*name.protocols, field))
    layer, _, what = field.partition(".")
    if layer in ("ip", "ipv6") and what in SIDES:
        network = network_of(value, 4 if layer == "ip" else 6)
        return name._replace(conditions=(*name.conditions, Condition(SIDES[what], network)))
    if layer in TRANSPORTS and what in PORTS:
        condition = Condition(PORTS[what], port=number_of(field, value, 65535))
        protocols = (*name.protocols, layer)
        return name._replace(conditions=(*name.conditions, condition), protocols=protocols)
    if field in ("udp.stream", "tcp.stream"):
        stream = (layer, number_of(field, value, 1 << 40))
        return name._replace(streams=(*name.streams, stream), protocols=(*name.protocols, layer))
    if field == "frame.number":
        return name._replace(frames=(*name.frames, number_of(field, value, 1 << 40)))
    raise ValueError(f"display filter: {field!r} is not understood; known: {KNOWN}")


def network_of(value: str, version: int) -> Any:
    """Return an address or a prefix of a display filter as a network; raises ValueError."""
    network = ipaddress.ip_network(value, strict=False)
    if network.version != version:
        raise ValueError(f"{value!r} is of IPv{network.version}, and the field of IPv{version}")
    return network


def number_of(field: str, value: str, most: int) -> int:
    """Return a number of a display filter; raises ValueError."""
    if not (value.isdecimal() and value.isascii()) or int(value) > most:
        raise ValueError(f"{field}: got {value!r}, expected a number of at most {most}")
    return int(value)


def chosen(
    name: FlowName,
    flows: Sequence[Ended],
    flow_of_frame: Callable[[int], int],
    frames_of_stream: Callable[[str, int], Sequence[int]],
) -> list[int]:
    """Return the positions of the flows that a name without a number means.

    flow_of_frame: the position of a frame's flow, -1 for none; frames_of_stream: the frames of a
    stream (captures.packets.streams), which may raise ValueError.
    """
    found = [at for at, flow in enumerate(flows) if name.meets(flow)]
    for frame in name.frames:
        found = [at for at in found if at == flow_of_frame(frame)]
    for proto, number in name.streams:
        inside = {flow_of_frame(frame) for frame in frames_of_stream(proto, number)}
        found = [at for at in found if at in inside]
    return found


def display_filter(proto: str, source: tuple[str, int], target: tuple[str, int]) -> str:
    """Return the display filter of a flow; addresses are text, or prefixes such as 10.0.0.0/8."""
    layer = "ipv6" if ":" in source[0] else "ip"
    words = [f"{layer}.addr=={address}" for address, _ in (source, target)]
    if proto in TRANSPORTS:
        words += [f"{proto}.port=={port}" for _, port in (source, target)]
    elif proto in WORDS:
        words.append(proto)
    return " && ".join(words)
