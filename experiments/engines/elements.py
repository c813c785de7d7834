# SPDX-License-Identifier: BSD-3-Clause
"""The elements of the policy language, one rule each: every match, payload kind, act and scope."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from midcall.testbed.policy.language import ACTS, PAYLOADS, Match, Rule, Scope
from midcall.testbed.policy.operator import Policy

Kind = Literal["match", "payload", "act", "scope", "key"]
#: Server names of samples and of the edge cases.
NAMES = ["*.whatsapp.net"]

#: A match per key of a match; a key with several meanings has several.
MATCHES: dict[str, dict[str, Any]] = {
    "app": {"app": ["whatsapp"]},
    "role": {"role": ["media"]},
    "verdict": {"app": ["whatsapp"], "verdict": "unsure"},
    "stun": {"stun": True},
    "stun over TCP": {"protocol": "tcp", "stun": True},
    "stun = false": {"protocol": "udp", "stun": False},
    "stun_method": {"stun_method": ["binding", "allocate"]},
    "stun_attribute": {"stun_attribute": [0x0024]},
    "name": {"name": NAMES},
    "name_in = tls": {"name": NAMES, "name_in": ["tls"]},
    "name_in = quic": {"name": NAMES, "name_in": ["quic"]},
    "name_in = http": {"name": NAMES, "name_in": ["http"]},
    "dns": {"dns": NAMES},
    "dscp": {"dscp": ["ef", "af41"]},
    "resolved": {"resolved": NAMES},
    "one_in": {"protocol": "udp", "one_in": 2},
    "hello": {"hello": ["08fd8d7b6da0f177"]},
    "addresses": {"addresses": ["198.18.7.1/32", "2001:2:0:1::/64"]},
    "ports": {"ports": ["3478-3481", "5060-5061", 65535]},
    "ports, not the last": {"ports": ["3478-3481", 7000]},
    "protocol = tcp": {"protocol": "tcp"},
    "protocol = udp": {"protocol": "udp"},
    "protocol = other": {"protocol": "other"},
    "size": {"protocol": "udp", "size": "40-160"},
    "size, any transport": {"size": "20-160"},
    "direction = up": {"protocol": "udp", "direction": "up"},
    "direction = down": {"protocol": "udp", "direction": "down"},
    "packets": {"protocol": "udp", "packets": "3-"},
    "packets, first ones": {"protocol": "udp", "packets": "-2"},
    "bytes": {"protocol": "udp", "bytes": "300-"},
    "seconds": {"protocol": "udp", "seconds": "0.1-"},
    "entropy": {"protocol": "udp", "entropy": "0.9-"},
}
UDP: dict[str, Any] = {"protocol": "udp", "ports": ["3478-3481", 7000]}
LARGE = {"protocol": "udp", "size": "160-"}
TLS_NAME: dict[str, Any] = {"name": NAMES, "name_in": ["tls"]}
#: Keys of a rule per act.
ACT_KEYS: dict[str, dict[str, Any]] = {
    "pass": {"match": UDP},
    "drop": {"match": UDP},
    "stall": {"match": UDP, "after": {"bytes": 150}},
    "drop-media": {"match": UDP},
    "dns-lie": {"match": {"dns": NAMES}},
    "reset": {"match": {"protocol": "tcp", "payload": ["tls-hello"]}},
    "finish": {"match": {"protocol": "tcp", "payload": ["tls-hello"]}},
    "block-page": {"match": {"name": NAMES, "name_in": ["http"]}},
    "unreachable": {"match": UDP, "scope": "packet"},
    "mark": {"match": UDP, "code_point": "ef"},
    "duplicate": {"match": UDP, "share": 0.5},
    "corrupt": {"match": UDP, "share": 0.1},
    "prioritise": {
        "match": UDP,
        "scope": "client",
        "rate_kbit": 512.0,
        "queue_ms": 200.0,
        "first": ["ef"],
        "cross_kbit": 300.0,
    },
    "reorder": {"match": UDP, "share": 0.1, "delay_ms": 60.0},
    "delay": {"match": UDP, "delay_ms": 50.0},
    "jitter": {"match": UDP, "jitter_ms": 5.0},
    "loss": {"match": UDP, "loss": 0.1},
    "police": {"match": UDP, "rate_kbit": 64.0, "bucket_bytes": 8000},
    "shape": {"match": UDP, "rate_kbit": 64.0, "queue_ms": 200.0},
    "censor": {"match": UDP, "file": "nothing.censor"},
}
SCOPES: tuple[str, ...] = get_args(Scope)
#: Other keys of a rule that change what it does.
KEYS: dict[str, dict[str, Any]] = {
    "way = up": {"match": UDP, "act": "drop", "way": "up"},
    "way = down": {"match": UDP, "act": "drop", "way": "down"},
    "after": {"match": {"stun": True}, "act": "drop", "after": {"packets": 3}},
    "other transports, flow": {
        "match": {"protocol": "other", "direction": "up"},
        "act": "drop",
    },
    "after, bytes": {"match": {"protocol": "udp"}, "act": "drop", "after": {"bytes": 150}},
    "after, bytes per client": {
        "match": {"protocol": "udp", "size": "20-"},
        "act": "drop",
        "scope": "packet",
        "after": {"bytes": 2000, "per": "client"},
    },
    "scope = client, ports": {"match": UDP, "act": "drop", "scope": "client"},
    "probability": {"match": {"stun": True}, "act": "drop", "probability": 0.5},
    "lasts_s": {"match": {"stun": True}, "act": "drop", "lasts_s": 60.0},
    "lasts_s, client": {
        "match": {"protocol": "udp", "ports": [53]},
        "act": "drop",
        "scope": "client",
        "lasts_s": 2.0,
    },
    "hours": {"match": {"stun": True}, "act": "drop", "hours": ["18:00-24:00"]},
    "on_s, off_s": {"match": {"stun": True}, "act": "drop", "on_s": 10.0, "off_s": 20.0},
    "resets": {"match": TLS_NAME, "act": "reset", "resets": [0, 1460]},
    "hops": {"match": TLS_NAME, "act": "reset", "hops": "own"},
    "ip_id": {"match": TLS_NAME, "act": "reset", "ip_id": "own"},
    "path = on": {"match": TLS_NAME, "act": "reset", "path": "on"},
    "towards = client": {"match": TLS_NAME, "act": "reset", "towards": "client"},
    "towards = server": {"match": TLS_NAME, "act": "reset", "towards": "server"},
    "towards = client, packet": {
        "match": {"protocol": "tcp", "payload": ["tls-hello"], "direction": "up"},
        "act": "reset",
        "scope": "packet",
        "towards": "client",
    },
    "reset, packet": {
        "match": {"protocol": "tcp", "payload": ["tls-hello"]},
        "act": "reset",
        "scope": "packet",
    },
    "name, flow": {"match": {"name": NAMES}, "act": "drop"},
    "name_in = tls, flow": {"match": TLS_NAME, "act": "drop"},
    "name_in = quic, flow": {"match": {"name": NAMES, "name_in": ["quic"]}, "act": "drop"},
    "dns, flow": {"match": {"dns": NAMES}, "act": "drop"},
}


class Element(NamedTuple):
    """A part of the language: its kind, its name, and a policy of the one rule that uses it."""

    kind: Kind
    name: str
    policy: Policy

    @property
    def label(self) -> str:
        """Return a name that no other element has."""
        return f"{self.kind} {self.name}"


def elements() -> list[Element]:
    """Return every element of the language.

    Matches drop the packets that meet them and those alone, so that nothing but the match decides.
    """
    out = [
        element("match", name, match=match, act="drop", scope="packet")
        for name, match in MATCHES.items()
    ]
    out += [
        element("payload", word, match={"payload": [word]}, act="drop", scope="packet")
        for word in PAYLOADS
    ]
    out += [element("act", act, **ACT_KEYS[act], act=act) for act in ACTS if act in ACT_KEYS]
    out += [
        element("scope", scope, match={"stun": True}, act="drop", scope=scope) for scope in SCOPES
    ]
    out += [element("key", name, **keys) for name, keys in KEYS.items()]
    (spared,) = element("key", "", match=LARGE, act="pass", scope="packet").policy.rules
    (single,) = element("key", "", match=LARGE, act="drop", scope="packet").policy.rules
    (dropped,) = element(
        "key", "", match={"protocol": "udp", "size": "20-"}, act="drop"
    ).policy.rules
    for name, first in (("pass before a flow", spared), ("drop before a flow", single)):
        both = Policy((first.model_copy(update={"name": "first"}), dropped))
        out.append(Element("key", name, both))
    return out


def element(kind: Kind, name: str, **keys: Any) -> Element:
    """Return an element with its rule."""
    about = {"name": "rule", "grade": "D", "source": "the language", "hypothesis": True}
    return Element(kind, name, Policy((Rule.model_validate({**about, **keys}),)))


def lacking() -> list[str]:
    """Return the keys of a match and the acts of the language that no element has."""
    keys = {key for match in MATCHES.values() for key in match} | {"payload"}
    return sorted({*Match.model_fields} - keys) + sorted(set(ACTS) - ACT_KEYS.keys())
