# SPDX-License-Identifier: BSD-3-Clause
"""The match/act table: a policy as arrays that the compiled middlebox walks per packet.

One RULE row per rule, in the policy's order; lists of names, prefixes and ports are in separate
arrays; a row has the bounds of its part. A host name is matched by the hashes of its suffixes at
label boundaries, read backwards, so `*.example.com` never meets `badexample.com`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.flow_table import Records, mix, record_hash
from midcall.classifier.state.packet_fields import NAME_HTTP_HOST, NAME_QUIC_SNI, NAME_SNI
from midcall.classifier.state.verdicts import APPS, ROLES, VERDICTS
from midcall.testbed.middlebox.censor import FACTS, load
from midcall.testbed.middlebox.inject import (
    COPY_LETTER_ROOM,
    COPY_MAIL_ROOM,
    LETTER,
    LETTER_ROOM,
    MAIL_ROOM,
    METER_KIND,
    METER_OVERHEAD,
    NOWHERE_4,
    NOWHERE_6,
    OWN,
    UNREACHABLES,
)
from midcall.testbed.middlebox.payload_type import WHOLE
from midcall.testbed.middlebox.state import FLOW_SCOPE, SCOPES, lanes_hash, memory
from midcall.testbed.network import access as networks
from midcall.testbed.network.link import CERTAIN, LINK, chance, fill_link, seed_of
from midcall.testbed.policy.language import (
    ACTS,
    FORGING,
    METHODS,
    MOST_RESETS,
    PAYLOADS,
    After,
    Match,
    Rule,
)
from midcall.testbed.policy.operator import Policy
from midcall.testbed.policy.syntax import code_point, host_address, port_range, prefix, span

Numbers = NDArray[np.int64]

# Acts, as numbers of a row.
PASS, DROP, STALL, DROP_MEDIA = (ACTS.index(act) for act in ("pass", "drop", "stall", "drop-media"))
DNS_LIE, TCP_RESET, TCP_FINISH = (ACTS.index(act) for act in ("dns-lie", "reset", "finish"))
BLOCK_PAGE, NO_ROUTE = ACTS.index("block-page"), ACTS.index("unreachable")
MARK, DUPLICATED, CORRUPT = (ACTS.index(act) for act in ("mark", "duplicate", "corrupt"))
#: From DELAY to the act before CENSOR, the emulated link acts: delay, jitter, loss, rate, order.
DELAY = ACTS.index("delay")
PRIORITISE = ACTS.index("prioritise")
CENSOR = ACTS.index("censor")

ANY = -1
UP, DOWN = 0, 1

#: The word for an end's own TTL or IP id.
OWN_WORD = "own"
#: The end of an open range, and the time of an event that never happens.
FOREVER = 1 << 62

# Reasons why a settled flow that does not match now could match later, bits.
BY_PACKET, BY_TAINT, BY_WAITING = 1, 2, 4

# Features of single packets that a rule needs; a box computes them only where a rule does.
NEED_KIND, NEED_ENTROPY, NEED_STUN, NEED_MORE = 1, 2, 4, 8
#: What a box must observe in packets that no rule asks about: TTL and IP id of the ends, with which
#: a rule forges; addresses in DNS answers; the box's first time.
NEED_HEADERS, NEED_ANSWERS, NEED_BEGIN = 16, 32, 64

# Groups of conditions that a rule may have, bits of its column `more`: counts; STUN details, hellos
# and entropy; a sample; code points; addresses of DNS answers; the phase of the rule.
MORE_COUNTS, MORE_CONTENT, MORE_SAMPLE, MORE_DSCP, MORE_RESOLVED = 1, 2, 4, 8, 16
MORE_PHASE = 32
MORE_RARE = MORE_SAMPLE | MORE_DSCP | MORE_RESOLVED | MORE_PHASE

#: The longest host name (RFC 1035 section 2.3.4), and room for a longer, invalid one.
NAME_ROOM = 256

# Slots of `seen`: features of one packet (filled by `look`), then scratch of its entropy.
SEEN_STUN, SEEN_NAME, SEEN_KIND, SEEN_PAYLOAD, SEEN_ENTROPY, SEEN_PACKET, SEEN_DSCP = range(7)
SEEN_TALLY = 16
SEEN = SEEN_TALLY + 256

# Slots of `meter`, a box's own counters.
METER_NEEDS, METER_FORGOTTEN = 0, 1
METER_FAILED = 7  # 1 + the number of the packet on which a censor failed
METER_CULPRIT = 8  # ... and the number of its rule
METER_BEGAN = 9  # ns, of the box's first packet; 0: not needed, or none yet
METER_SEES = 10  # UP, DOWN or ANY: direction of the packets that the box sees
METER_MARKED = 11  # 1 + the code point of the last packet decided; who sends the packet writes it
BOX_METERS = 16

RULE = np.dtype(
    [
        ("act", "i8"),
        ("scope", "i8"),
        ("way", "i8"),  # UP, DOWN or ANY: direction of the packets it acts on
        ("apps", "i8"),  # bit per app of classifier.verdicts; 0: any
        ("roles", "i8"),
        ("verdict", "i8"),  # at least this sure; 0: the verdict is not needed
        ("stun", "i8"),  # 1, 0 or ANY
        ("proto", "i8"),  # IP protocol number or ANY; OTHER_PROTO
        ("direction", "i8"),  # UP, DOWN or ANY
        ("payloads", "i8"),  # bit per kind of testbed.language.PAYLOADS; 0: any
        ("ports", "i8"),  # row of the port table or ANY
        ("names", "i8", (2,)),  # bounds in `suffixes`; empty: not matched
        ("name_kinds", "i8"),  # bit per NAME_ of classifier.signs
        ("questions", "i8", (2,)),
        ("resolved", "i8", (2,)),
        ("prefixes", "i8", (2,)),
        ("methods", "i8", (2,)),  # bounds in `words`
        ("attributes", "i8", (2,)),
        ("hellos", "i8", (2,)),
        ("size", "i8", (2,)),  # ranges, both ends included
        ("packets", "i8", (2,)),
        ("bytes", "i8", (2,)),
        ("age", "i8", (2,)),  # ns
        ("entropy", "i8", (2,)),  # of testbed.payloads.WHOLE
        ("more", "i8"),  # MORE_ bits: which of the conditions that are not asked of every rule
        ("one_in", "i8"),  # of 2**31: chance that a packet is inspected
        ("dscp", "i8"),  # bit per code point
        ("watched", "i8"),  # 1: the box must see what it passes, as a DNS answer may be among it
        ("code_point", "i8"),  # that a packet is marked with
        ("phase", "i8", (2,)),  # ns in which it meets packets, of a cycle of so many
        ("on_path", "i8"),  # 1: the original passes, whatever is injected
        ("towards", "i8"),  # bits: 1 the client gets the forgery, 2 the server
        ("answer", "i8", (6,)),  # of a false DNS answer: testbed.forge.send_answer
        ("resets", "i8", (MOST_RESETS,)),  # octets ahead of each reset, ANY where there is none
        ("hops", "i8"),  # of a forged segment; OWN
        ("ip_id", "i8"),
        ("share", "i8"),  # of 2**31: packets that are sent twice or corrupted
        ("icmp", "i8", (2,)),  # type * 256 + code of ICMP and ICMPv6
        ("censor", "i8"),  # address of a compiled censor
        ("keeps", "i8"),  # 1: it keeps numbers for each flow
        ("lasts", "i8"),  # ns; FOREVER
        ("waits", "i8"),  # 1: it has an allowance
        ("after", "i8", (4,)),  # packets, bytes, ns, flows; all 0: at once
        ("after_scope", "i8"),  # whose packets count
        ("after_way", "i8"),  # UP, DOWN or ANY: direction of the packets that count
        ("renewal", "i8", (2,)),  # ns since its begin, or without a packet, that end a count
        ("copies", "i8"),  # 1: matches what is read once per flow, so copies must be recognised
        ("remembers", "i8"),  # 1: state of its subjects is kept in `memory`
        ("fluid", "i8"),  # BY_ bits: why a settled flow that does not match now could match later
        ("chance", "i8"),  # of 2**31
        ("per_client", "i8"),
        ("key", "i8"),  # 31 bits, of the rule's name and the seed
    ]
)
SUFFIX = np.dtype([("hash", "i8"), ("exact", "i8")])
PREFIX = np.dtype([("version", "i8"), ("lanes", "i8", (4,)), ("masks", "i8", (4,))])

OTHER_PROTO = -2


class RuleTable(NamedTuple):
    """A policy in arrays, with its box's memory, as testbed.middlebox.decide.decide takes it.

    One table belongs to one box: `met`, `memory` and `meter` change with every packet.
    """

    rules: Records  # RULE[n]
    links: Records  # LINK[n], delay, loss and rate of each rule's act
    suffixes: Records  # SUFFIX[...]
    prefixes: Records  # PREFIX[...]
    ports: NDArray[np.uint8]  # [rows, 65536], 1 where the port is in the set
    words: Numbers  # methods, attributes and fingerprints
    met: Numbers  # int64[n], packets that met each rule
    memory: Records  # STATE[...] of testbed.memory
    meter: Numbers  # int64[BOX_METERS]
    name: NDArray[np.uint8]  # scratch: the packet's host name
    seen: Numbers  # scratch: features of the packet
    facts: Numbers  # scratch: the fields that a censor can read
    letters: Records  # LETTER[...] of testbed.forge: frames to send, meter[METER_LETTERS] of them
    mail: NDArray[np.uint8]  # their octets; the sender resets the letter and octet counters to 0


def table(policy: Policy, seed: int, access: str = "fibre") -> RuleTable:
    """Return a policy as arrays, for one box on an access network; `seed` is that of the run."""
    count = len(policy.rules)
    rules, links = np.zeros(count, RULE), np.zeros(count, LINK)
    suffixes: list[tuple[int, int]] = []
    prefixes: list[tuple[int, list[int], list[int]]] = []
    ports: list[NDArray[np.uint8]] = []
    words: list[int] = []
    meter = np.zeros(BOX_METERS, np.int64)
    for row, link, rule in zip(rules, links, policy.rules, strict=True):
        fill_row(row, rule, seed)
        fill_link(link, rule.link, int(row["key"]))
        fill_words(row, rule.match, words)
        row["names"] = stretch(suffixes, [suffix(word) for word in rule.match.name])
        row["questions"] = stretch(suffixes, [suffix(word) for word in rule.match.dns])
        if rule.match.resolved:
            row["resolved"] = stretch(suffixes, [suffix(word) for word in rule.match.resolved])
        prefix_rows = [prefix_row(word) for word in policy.prefixes(rule)]
        row["prefixes"] = stretch(prefixes, prefix_rows)
        row["ports"] = len(ports) if rule.match.ports else ANY
        if rule.match.ports:
            ports.append(port_row(rule))
        meter[METER_NEEDS] |= needs(rule)
    rules["watched"] = meter[METER_NEEDS] & NEED_ANSWERS != 0
    meter[METER_SEES] = direction(policy.sees)
    if policy.sees:  # no rule acts on what it does not see, so no flow is wholly dropped
        rules["way"][rules["way"] == ANY] = direction(policy.sees)
    network, forges = networks.link(access), any(rule.act in FORGING for rule in policy.rules)
    copies = any(rule.act in ("duplicate", "corrupt") for rule in policy.rules)
    letter_room, mail_room = (
        (COPY_LETTER_ROOM, COPY_MAIL_ROOM) if copies else (LETTER_ROOM, MAIL_ROOM)
    )
    meter[METER_KIND], meter[METER_OVERHEAD] = network.kind, network.overhead
    return RuleTable(
        rules,
        links,
        np.array(suffixes, SUFFIX),
        np.array(prefixes, PREFIX),
        np.array(ports, np.uint8).reshape(len(ports), 65536),
        np.array(words, np.int64),
        np.zeros(count, np.int64),
        memory(bool(rules["remembers"].any())),
        meter,
        np.zeros(NAME_ROOM, np.uint8),
        np.zeros(SEEN, np.int64),
        np.zeros(FACTS, np.int64),
        np.zeros(letter_room if forges else 0, LETTER),
        np.zeros(mail_room if forges else 0, np.uint8),
    )


def needs(rule: Rule) -> int:
    """Return a bit mask of what a rule needs to know of packets: NEED_ bits."""
    match = rule.match
    bits = NEED_KIND if match.payload else 0
    bits |= NEED_ENTROPY if match.entropy is not None else 0
    bits |= NEED_STUN if match.stun is not None or match.stun_method else 0
    bits |= NEED_MORE if match.one_in > 1 or match.dscp or rule.first else 0
    bits |= NEED_HEADERS if knows_headers(rule) else 0
    bits |= NEED_ANSWERS if match.resolved else 0
    return bits | (NEED_BEGIN if rule.on_s else 0)


def more(rule: Rule) -> int:
    """Return a bit mask of the groups of conditions that a rule has: MORE_ bits."""
    match = rule.match
    counts = (match.size, match.packets, match.bytes, match.seconds)
    bits = MORE_COUNTS if any(one is not None for one in counts) else 0
    if match.stun_method or match.stun_attribute or match.hello or match.entropy is not None:
        bits |= MORE_CONTENT
    bits |= MORE_SAMPLE if match.one_in > 1 else 0
    bits |= MORE_DSCP if match.dscp else 0
    bits |= MORE_RESOLVED if match.resolved else 0
    return bits | (MORE_PHASE if rule.on_s else 0)


def fill_row(row: Any, rule: Rule, seed: int) -> None:
    """Fill the columns of a row that need no other array."""
    match = rule.match
    row["act"] = ACTS.index(rule.act)
    row["scope"] = SCOPES.index(rule.strikes)
    row["way"] = direction(rule.way)
    row["apps"] = sum(1 << APPS.index(app) for app in match.app)
    row["roles"] = sum(1 << ROLES.index(role) for role in match.role)
    row["verdict"] = VERDICTS.index(match.verdict) if match.flow_words else 0
    row["stun"] = ANY if match.stun is None else int(match.stun)
    row["proto"] = {"tcp": 6, "udp": 17, "other": OTHER_PROTO, None: ANY}[match.protocol]
    row["direction"] = direction(match.direction)
    row["payloads"] = sum(1 << PAYLOADS.index(word) for word in match.payload)
    row["name_kinds"] = name_kinds(match)
    for key in ("size", "packets", "bytes"):
        row[key] = ends(getattr(match, key), 1)
    row["age"], row["entropy"] = ends(match.seconds, 10**9), ends(match.entropy, WHOLE)
    row["more"] = more(rule)
    if row["more"] & MORE_RARE:
        row["one_in"], row["dscp"] = chance(1 / match.one_in), code_points(match)
        row["phase"] = round(rule.on_s * 1e9), round((rule.on_s + rule.off_s) * 1e9)
    if rule.act in FORGING:
        fill_forging(row, rule)
    if rule.act == "censor":
        row["censor"], row["keeps"] = load(rule.file).address, keeps_numbers(rule)
    if rule.act == "mark":
        row["code_point"] = code_point(rule.code_point)
    row["lasts"] = FOREVER if rule.lasts_s is None else round(rule.lasts_s * 1e9)
    if rule.after is not None:
        fill_after(row, rule.after)
    row["copies"] = strikes_copies(rule)
    row["remembers"] = remembers(rule)
    row["fluid"] = fluidity(rule)
    row["chance"] = chance(rule.probability)
    row["per_client"] = rule.per == "client"
    row["key"] = seed_of(seed, rule.name)


def fill_forging(row: Any, rule: Rule) -> None:
    """Fill the columns of an act that sends frames."""
    row["on_path"] = rule.path == "on"
    row["towards"] = {"client": 1, "server": 2, "both": 3}[rule.towards]
    row["answer"] = false_answer(rule.answer)
    row["resets"] = [*rule.resets, *[ANY] * (MOST_RESETS - len(rule.resets))]
    row["hops"] = OWN if rule.hops == "own" else rule.hops
    row["ip_id"] = OWN if rule.ip_id == "own" else rule.ip_id
    row["icmp"] = [kind * 256 + code for kind, code in UNREACHABLES[rule.code]]
    row["share"] = chance(rule.share)


def fill_after(row: Any, after: After) -> None:
    """Fill the columns of a rule's allowance."""
    row["waits"] = 1
    row["after"] = after.packets, after.bytes, round(after.seconds * 1e9), after.flows
    row["after_scope"], row["after_way"] = SCOPES.index(after.per), direction(after.direction)
    row["renewal"] = round(after.every_s * 1e9), round(after.idle_s * 1e9)


def false_answer(word: str) -> tuple[int, ...]:
    """Return a false DNS answer as testbed.middlebox.inject.send_answer takes it."""
    if word == "nxdomain":
        return (0,) * 6
    address = host_address(word)
    if isinstance(address, IPv4Address):
        return 1, int(address), *NOWHERE_6
    return 1, NOWHERE_4, *lanes_of(address)


def direction(word: str | None) -> int:
    """Return a direction as a number."""
    return {"up": UP, "down": DOWN, None: ANY}[word]


def code_points(match: Match) -> int:
    """Return a bit mask of a match's code points, as a signed number of 64 bits."""
    mask = sum(1 << code_point(word) for word in set(match.dscp))
    return mask - (1 << 64) if mask >> 63 else mask


def name_kinds(match: Match) -> int:
    """Return a bit mask of where names are matched: NAME_ of classifier.state.packet_fields."""
    kinds = {"tls": NAME_SNI, "quic": NAME_QUIC_SNI, "http": NAME_HTTP_HOST}
    return sum(1 << kinds[word] for word in match.name_in or kinds)


def ends(word: float | str | None, unit: int) -> tuple[int, int]:
    """Return both ends of a range in whole parts of a unit."""
    if word is None:
        return -FOREVER, FOREVER
    low, high = span(word)
    return round(low * unit), round(high * unit) if isfinite(high) else FOREVER


def taints(rule: Rule) -> bool:
    """Tell whether a match affects more than its flow, or only for a time."""
    return SCOPES.index(rule.strikes) > FLOW_SCOPE or rule.lasts_s is not None


def remembers(rule: Rule) -> bool:
    """Tell whether a box must keep state of a rule's subjects."""
    slow = DELAY <= ACTS.index(rule.act) < CENSOR
    wide = taints(rule) or rule.after is not None or slow
    observes = knows_headers(rule) or bool(rule.match.resolved) or keeps_numbers(rule)
    return wide or strikes_copies(rule) or observes


def keeps_numbers(rule: Rule) -> bool:
    """Tell whether a rule's censor keeps numbers for each flow."""
    return rule.act == "censor" and load(rule.file).remembers


def knows_headers(rule: Rule) -> bool:
    """Tell whether a rule forges with the TTL or IP id of an end."""
    return OWN_WORD in (rule.hops, rule.ip_id)


def strikes_copies(rule: Rule) -> bool:
    """Tell whether a rule must recognise copies of a packet that it met.

    A host name or hello is read once per flow, but a retransmitted packet has it again.
    """
    return rule.strikes == "packet" and bool(rule.match.name or rule.match.hello)


def fluidity(rule: Rule) -> int:
    """Return a bit mask of reasons why a flow that does not match now could match later.

    A settled flow is no longer inspected for names, hellos and the classifier's verdict; addresses,
    ports and transport never change. The content of single packets, counts, and taint can change.
    """
    match = rule.match
    single = (match.stun, match.direction, match.size, match.packets, match.bytes)
    further = (match.seconds, match.entropy, match.payload or None, match.dscp or None)
    asked = any(one is not None for one in (*single, *further)) or match.one_in > 1
    asked = asked or bool(match.stun_method or match.stun_attribute or rule.on_s)
    read_once = bool(match.name or match.dns or match.hello)
    by_packet = BY_PACKET if asked and not read_once else 0
    later = taints(rule) or rule.act in ("mark", "censor") or bool(match.resolved)
    by_taint = BY_TAINT if later else 0
    return by_packet | by_taint | (BY_WAITING if rule.after is not None else 0)


def fill_words(row: Any, match: Match, words: list[int]) -> None:
    """Append a rule's methods, attributes and hellos to `words`, and set their bounds."""
    methods = [METHODS[word] if isinstance(word, str) else word for word in match.stun_method]
    row["methods"] = stretch(words, methods)
    row["attributes"] = stretch(words, match.stun_attribute)
    row["hellos"] = stretch(words, [int(word, 16) for word in match.hello])


def stretch(rows: list[Any], more: list[Any]) -> tuple[int, int]:
    """Append rows to an array that rules share; returns their bounds."""
    first = len(rows)
    rows.extend(more)
    return first, len(rows)


def suffix(word: str) -> tuple[int, int]:
    """Return the hash of a name pattern, and whether the whole name must equal it."""
    exact = not word.startswith("*.")
    text = np.frombuffer(word.removeprefix("*.").encode(), np.uint8).copy()
    return int(name_hash(text, len(text))), int(exact)


def prefix_row(word: str) -> tuple[int, list[int], list[int]]:
    """Return a prefix as (IP version, address lanes, mask lanes), 32 bits a lane."""
    network = prefix(word)
    return network.version, lanes_of(network.network_address), lanes_of(network.netmask)


def lanes_of(address: IPv4Address | IPv6Address) -> list[int]:
    """Return an address as four lanes of 32 bits, 0 where IPv4 has none."""
    return [int(lane) for lane in np.frombuffer(address.packed.ljust(16, b"\0"), ">u4")]


def port_row(rule: Rule) -> NDArray[np.uint8]:
    """Return a row of the port table: uint8[65536], 1 where the port is in the rule's set."""
    row = np.zeros(65536, np.uint8)
    for word in rule.match.ports:
        first, last = port_range(word)
        row[first : last + 1] = 1
    return row


# ---- compiled


@kernel
def lower(octet: int) -> int:
    """Return an ASCII letter in lower case."""
    return I(octet + 32 if 65 <= octet <= 90 else octet)


@kernel
def name_hash(text: Octets, length: int) -> int:
    """Return the 62-bit hash of a dotted name, read from its end."""
    one, two = I(0x1234567), I(0x89ABCDE)
    for back in range(1, length + 1):
        octet = lower(I(text[length - back]))
        one, two = mix(one, octet), mix(two, octet + 256)
    return ((one & 0x3FFFFFFF) << 32) | two


@kernel
def name_meets(text: Octets, length: int, suffixes: Records, first: int, last: int) -> bool:
    """Tell whether a dotted name meets one of the patterns suffixes[first:last]."""
    one, two = I(0x1234567), I(0x89ABCDE)
    for back in range(1, length + 1):
        octet = lower(I(text[length - back]))
        one, two = mix(one, octet), mix(two, octet + 256)
        whole = back == length
        if whole or I(text[length - back - 1]) == 46:
            suffix_hash = ((one & 0x3FFFFFFF) << 32) | two
            for row in range(first, last):
                if suffixes[row]["hash"] == suffix_hash and (whole or suffixes[row]["exact"] == 0):
                    return True
    return False


@kernel
def address_meets(version: int, lanes: Any, prefixes: Records, first: int, last: int) -> bool:
    """Tell whether an address lies in one of prefixes[first:last]."""
    for row in range(first, last):
        entry = prefixes[row]
        if entry["version"] != version:
            continue
        same = True
        for lane in range(4):
            if I(lanes[lane]) & entry["masks"][lane] != entry["lanes"][lane]:
                same = False
        if same:
            return True
    return False


@kernel
def enforced(rule: Any, flow: Any, near_is_source: bool) -> bool:
    """Return whether a rule is enforced on a flow or client: the same at every call."""
    if rule["chance"] >= CERTAIN:
        return True
    if rule["per_client"] == 0:
        return bool(record_hash(flow, rule["key"]) < rule["chance"])
    lanes = flow["source"] if near_is_source else flow["target"]
    return bool((lanes_hash(lanes, rule["key"]) & 0x7FFFFFFF) < rule["chance"])
