# SPDX-License-Identifier: BSD-3-Clause
"""Labels of peers in Midcall's terms; the complete mapping.

A label is one word, or several separated by dots (`STUN.WhatsAppCall`, `sip.sdp`). A word means

- CALL: a call of that app, over any transport;
- APP: an app, call or not: over UDP it counts as a call (in the peer's favour), over TCP as chat;
  a name read from DNS, TLS, HTTP or QUIC (NAME first) counts as chat too;
- STREAM: a call without an app;
- HINT: possibly a call without an app: unsure.

The peer guessed a label that ends in "?" from a port or an address: it counts as unsure at most. If
a flow has several records, the strongest claim counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from midcall.captures.packets.numbers import UDP
from midcall.experiments.measure import metrics
from midcall.experiments.measure.metrics import NAMELESS

#: A flow's protocol number and both its ends, in no order.
Key = tuple[int, frozenset[tuple[str, int]]]
#: An answer of a peer: flow -> labels of its records.
Answer = dict[Key, tuple[str, ...]]
Claim = dict[str, Any]

CALL, APP, STREAM, HINT, NAME = "call", "app", "stream", "hint", "name"
NO_CLAIM: Claim = {"verdict": "not-call", "app": "none", "role": "other"}

#: nDPI's protocol names, which nfstream uses too.
NDPI: dict[str, tuple[str, str]] = {
    "WhatsAppCall": (CALL, "whatsapp"),
    "SkypeCall": (CALL, "skype"),
    "Skype_TeamsCall": (CALL, "skype"),
    "TeamsCall": (CALL, "teams"),
    "ViberVoip": (CALL, "viber"),
    "AppleFaceTime": (CALL, "facetime"),
    "FaceTime": (CALL, "facetime"),
    "FacebookVoip": (CALL, "messenger"),
    "SignalVoip": (CALL, "signal"),
    "TelegramVoip": (CALL, "telegram"),
    "GoogleHangoutDuo": (CALL, "meet"),
    "GoogleCall": (CALL, "meet"),
    "LineCall": (CALL, "line"),
    "KakaoTalk_Voice": (CALL, "kakaotalk"),
    "SnapchatCall": (CALL, "snapchat"),
    "SIP": (CALL, "sip"),
    "H323": (CALL, "other-rtc"),
    "MGCP": (CALL, "other-rtc"),
    "Megaco": (CALL, "other-rtc"),
    "IAX": (CALL, "other-rtc"),
    "CiscoSkinny": (CALL, "other-rtc"),
    "TeamSpeak": (CALL, "other-rtc"),
    "Mumble": (CALL, "other-rtc"),
    "NOE": (CALL, "other-rtc"),
    "TruPhone": (CALL, "other-rtc"),
    "Vivox": (CALL, "other-rtc"),
    "WhatsApp": (APP, "whatsapp"),
    "Skype": (APP, "skype"),
    "Skype_Teams": (APP, "skype"),
    "Teams": (APP, "teams"),
    "Viber": (APP, "viber"),
    "Messenger": (APP, "messenger"),
    "Signal": (APP, "signal"),
    "Telegram": (APP, "telegram"),
    "Zoom": (APP, "zoom"),
    "Webex": (APP, "webex"),
    "Discord": (APP, "discord"),
    "Line": (APP, "line"),
    "KakaoTalk": (APP, "kakaotalk"),
    "WeChat": (APP, "wechat"),
    "IMO": (APP, "imo"),
    "Snapchat": (APP, "snapchat"),
    "GoogleMeet": (APP, "meet"),
    "SD-RTN": (APP, "agora"),
    "Threema": (APP, "other-rtc"),
    "GoTo": (APP, "other-rtc"),
    "RTP": (STREAM, NAMELESS),
    "SRTP": (STREAM, NAMELESS),
    "RTCP": (STREAM, NAMELESS),
    "STUN": (HINT, NAMELESS),
    "DTLS": (HINT, NAMELESS),
    "DNS": (NAME, ""),
    "MDNS": (NAME, ""),
    "DoH_DoT": (NAME, ""),
    "TLS": (NAME, ""),
    "QUIC": (NAME, ""),
    "HTTP": (NAME, ""),
    "HTTP2": (NAME, ""),
    "HTTP_Connect": (NAME, ""),
    "HTTP_Proxy": (NAME, ""),
    "WebSocket": (NAME, ""),
    "OCSP": (NAME, ""),
}

#: tshark's dissector names. Of the apps it only has Skype before 2017.
TSHARK: dict[str, tuple[str, str]] = {
    "sip": (CALL, "sip"),
    "skype": (CALL, "skype"),
    "h225": (CALL, "other-rtc"),
    "h245": (CALL, "other-rtc"),
    "iax2": (CALL, "other-rtc"),
    "mgcp": (CALL, "other-rtc"),
    "megaco": (CALL, "other-rtc"),
    "skinny": (CALL, "other-rtc"),
    "unistim": (CALL, "other-rtc"),
    "ts2": (CALL, "other-rtc"),
    "t38": (CALL, "other-rtc"),
    "zrtp": (STREAM, NAMELESS),
    "rtp": (STREAM, NAMELESS),
    "srtp": (STREAM, NAMELESS),
    "rtcp": (STREAM, NAMELESS),
    "srtcp": (STREAM, NAMELESS),
    "stun": (HINT, NAMELESS),
    "classicstun": (HINT, NAMELESS),
    "dtls": (HINT, NAMELESS),
    "dns": (NAME, ""),
    "tls": (NAME, ""),
    "quic": (NAME, ""),
    "http": (NAME, ""),
}

TABLES = {"ndpi": NDPI, "nfstream": NDPI, "tshark": TSHARK}


def claim(peer: str, labels: Iterable[str], proto: int) -> Claim:
    """Return the claim of a peer's labels of one flow: verdict, app and role."""
    claims = [meaning(TABLES[peer], label, proto) for label in labels]
    return max(claims, key=strength, default=NO_CLAIM)


def strength(claim: Claim) -> tuple[tuple[int, int], bool]:
    """Return the strength of a claim: its verdict, then whether it names an app."""
    return metrics.rank({**claim, "packets": 0}), named(claim)


def named(claim: Claim) -> bool:
    """Return whether a claim names an app."""
    return claim["app"] not in ("none", NAMELESS, metrics.NO_APP)


def meaning(table: dict[str, tuple[str, str]], label: str, proto: int) -> Claim:
    """Return the claim of one label."""
    guessed = label.endswith("?")
    meanings = [table[word] for word in label.rstrip("?").split(".") if word in table]
    result = strongest(meanings, proto)
    return {**result, "verdict": "unsure"} if guessed and result["verdict"] == "certain" else result


def strongest(meanings: list[tuple[str, str]], proto: int) -> Claim:
    """Return the claim of a label's words together: a call first, then an app, then the rest."""
    app_of: dict[str, str] = {}
    for kind, app in meanings:
        app_of[kind] = app  # the last word of a kind is the most specific
    by_name = bool(meanings) and meanings[0][0] == NAME
    if CALL in app_of:
        return {"verdict": "certain", "app": app_of[CALL], "role": "media"}
    if APP in app_of:
        call = proto == UDP and not by_name
        role = "media" if call else "messaging"
        return {"verdict": "certain" if call else "not-call", "app": app_of[APP], "role": role}
    if by_name:
        return NO_CLAIM
    if STREAM in app_of:
        return {"verdict": "certain", "app": NAMELESS, "role": "media"}
    return {"verdict": "unsure", "app": NAMELESS, "role": "setup"} if HINT in app_of else NO_CLAIM
