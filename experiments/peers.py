# SPDX-License-Identifier: BSD-3-Clause
"""Peers: other engines on the same packets, where they are installed; absent, they give a reason.

nDPI's `ndpiReader` writes one CSV row per flow with a label such as `STUN.WhatsAppCall`. The tables
below say what such a label is worth in Midcall's words; they are the whole of the mapping:

- a word of CALLS says a call of that app, whatever carries it;
- a word of APPS names an app but not a call: over UDP it is taken for one (in its favour), over TCP
  it is chat, and so is every name read from DNS, TLS, HTTP or QUIC (MASTERS);
- a word of STREAMS says a call without an app; a word of HINTS alone is unsure.
"""

from __future__ import annotations

import csv
import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: Seconds that a peer may take for one capture.
TIMEOUT = 60.0

#: A flow's protocol number and both its ends, in no order.
Key = tuple[int, frozenset[tuple[str, int]]]
Claim = dict[str, Any]

CALLS = {
    "WhatsAppCall": "whatsapp", "SkypeCall": "skype", "Skype_TeamsCall": "skype",
    "TeamsCall": "teams", "ViberVoip": "viber", "AppleFaceTime": "facetime",
    "FaceTime": "facetime", "FacebookVoip": "messenger", "SignalVoip": "signal",
    "TelegramVoip": "telegram", "GoogleHangoutDuo": "meet", "GoogleCall": "meet",
    "LineCall": "line", "KakaoTalk_Voice": "kakaotalk", "SnapchatCall": "snapchat", "SIP": "sip",
    "H323": "other-rtc", "MGCP": "other-rtc", "Megaco": "other-rtc", "IAX": "other-rtc",
    "CiscoSkinny": "other-rtc", "TeamSpeak": "other-rtc", "Mumble": "other-rtc",
}  # fmt: skip
APPS = {
    "WhatsApp": "whatsapp", "Skype": "skype", "Skype_Teams": "skype", "Teams": "teams",
    "Viber": "viber", "Messenger": "messenger", "Signal": "signal", "Telegram": "telegram",
    "Zoom": "zoom", "Webex": "webex", "Discord": "discord", "Line": "line",
    "KakaoTalk": "kakaotalk", "WeChat": "wechat", "IMO": "imo", "Snapchat": "snapchat",
    "GoogleMeet": "meet", "SD-RTN": "agora",
}  # fmt: skip
STREAMS, HINTS = ("RTP", "SRTP", "RTCP"), ("STUN", "DTLS")
MASTERS = ("DNS", "MDNS", "TLS", "HTTP", "QUIC", "HTTP_Connect", "HTTP_Proxy", "DoH_DoT", "OCSP")
UDP = 17

SILENT: Claim = {"verdict": "not-call", "app": "none", "role": "other"}


class Peer(NamedTuple):
    """An engine that is installed."""

    name: str
    version: str
    program: str


def find(program: str = "ndpiReader") -> tuple[Peer | None, str]:
    """Return nDPI's reader, or None and the reason why it takes no part."""
    path = shutil.which(program)
    if path is None:
        return None, f"{program} is not installed (Debian: apt install libndpi-bin)"
    try:
        done = subprocess.run([path, "-h"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{program} does not run: {error}"
    found = re.search(r"nDPI (\d[\w.-]*)", done.stdout + done.stderr)
    if found is None:
        return None, f"{program} -h tells no version of nDPI"
    return Peer("ndpi", found.group(1), path), ""


def label_flows(peer: Peer, capture: Path, folder: Path) -> tuple[dict[Key, str], str]:
    """Return flow -> label of a capture file, or nothing and the reason.

    `folder` takes the peer's output. GTP tunnels are taken off (-t), as in Midcall.
    """
    out = folder / f"{capture.stem}.csv"
    command = [peer.program, "-i", str(capture), "-q", "-t", "-C", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return {}, f"took more than {TIMEOUT:.0f} s"
    except OSError as error:
        return {}, str(error)
    if done.returncode or not out.is_file():
        return {}, f"ended with code {done.returncode} and no output"
    text = out.read_text(encoding="utf-8", errors="replace")
    out.unlink()
    return parse(text.splitlines())


def parse(lines: Iterable[str]) -> tuple[dict[Key, str], str]:
    """Read ndpiReader's CSV; a header without the needed columns gives the reason."""
    reader = csv.DictReader(lines)
    names = [name.lstrip("#") for name in reader.fieldnames or ()]
    missing = {"protocol", "src_ip", "src_port", "dst_ip", "dst_port", "ndpi_proto"} - set(names)
    if missing:
        return {}, f"its CSV has no column {', '.join(sorted(missing))}"
    reader.fieldnames = names
    found = {}
    for row in reader:
        try:
            found[row_key(row)] = row["ndpi_proto"] or ""
        except ValueError:  # a line that is no flow
            continue
    return found, ""


def row_key(row: Mapping[str, Any]) -> Key:
    """Return the key of a CSV row; raises ValueError for one that is no flow."""
    ends = ((row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"]))
    return int(row["protocol"]), frozenset(end(address, int(port)) for address, port in ends)


def end(address: str, port: int) -> tuple[str, int]:
    """Return an end of a flow, its address in the one way of writing it."""
    return str(ipaddress.ip_address(address)), port


def claim(label: str, proto: int) -> Claim:
    """Return what a label says in Midcall's words, by the tables above."""
    parts = label.split(".")
    for word in reversed(parts):
        if word in CALLS:
            return {"verdict": "certain", "app": CALLS[word], "role": "media"}
    named = parts[0] in MASTERS
    for word in reversed(parts):
        if word in APPS:
            call = proto == UDP and not named
            role = "media" if call else "messaging"
            return {"verdict": "certain" if call else "not-call", "app": APPS[word], "role": role}
    if named:
        return SILENT
    if any(word in STREAMS for word in parts):
        return {"verdict": "certain", "app": "other-rtc", "role": "media"}
    if any(word in HINTS for word in parts):
        return {"verdict": "unsure", "app": "other-rtc", "role": "setup"}
    return SILENT
