# SPDX-License-Identifier: BSD-3-Clause
"""Labels: what a peer's word for a flow is worth in Midcall's words; the whole of the mapping.

A label is one word or several with dots between (`STUN.WhatsAppCall`, `sip.sdp`). A word says

- CALL: a call of that app, whatever carries it;
- APP: an app, but not whether it is a call: over UDP it is taken for one (in the peer's favour),
  over TCP it is chat, and so is every name that was read from DNS, TLS, HTTP or QUIC (NAME first);
- STREAM: a call, without an app;
- HINT: perhaps a call, without an app: unsure.

A label that ends in "?" was guessed by the peer from a port or an address: unsure at most. Of
several records of one flow the one that says most counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from midcall.captures.packets.numbers import UDP
from midcall.experiments.measure import metrics
from midcall.experiments.measure.metrics import NAMELESS

#: A flow's protocol number and both its ends, in no order.
Key = tuple[int, frozenset[tuple[str, int]]]
#: What a peer says: flow -> labels of its records.
Answer = dict[Key, tuple[str, ...]]
Claim = dict[str, Any]

CALL, APP, STREAM, HINT, NAME = "call", "app", "stream", "hint", "name"
SILENT: Claim = {"verdict": "not-call", "app": "none", "role": "other"}

#: nDPI's words, which nfstream uses too.
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

#: tshark's names of dissectors. It has none for the apps, but for Skype of before 2017.
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
    """Return what a peer's labels of a flow's records say in Midcall's words."""
    claims = [meaning(TABLES[peer], label, proto) for label in labels]
    return max(claims, key=lambda one: (metrics.rank({**one, "packets": 0}), named(one)),
               default=SILENT)  # fmt: skip


def named(claim: Claim) -> bool:
    """Tell whether a claim names an app."""
    return claim["app"] not in ("none", NAMELESS, metrics.NO_APP)


def meaning(table: dict[str, tuple[str, str]], label: str, proto: int) -> Claim:
    """Return what one label says."""
    guessed = label.endswith("?")
    words = [table[word] for word in label.rstrip("?").split(".") if word in table]
    said = strongest(words, proto)
    return {**said, "verdict": "unsure"} if guessed and said["verdict"] == "certain" else said


def strongest(words: list[tuple[str, str]], proto: int) -> Claim:
    """Return what the words of a label say together: a call first, then an app, then the rest."""
    held: dict[str, str] = {}
    for kind, app in words:
        held[kind] = app  # the last word of a kind is the more special one
    by_name = bool(words) and words[0][0] == NAME
    if CALL in held:
        return {"verdict": "certain", "app": held[CALL], "role": "media"}
    if APP in held:
        call = proto == UDP and not by_name
        role = "media" if call else "messaging"
        return {"verdict": "certain" if call else "not-call", "app": held[APP], "role": role}
    if by_name:
        return SILENT
    if STREAM in held:
        return {"verdict": "certain", "app": NAMELESS, "role": "media"}
    return {"verdict": "unsure", "app": NAMELESS, "role": "setup"} if HINT in held else SILENT
