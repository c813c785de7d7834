# SPDX-License-Identifier: BSD-3-Clause
"""A second opinion: what tshark reads in each recorded flow, beside the truth of its programs.

tshark has no say in the truth. Where it reads something else than the programs say they spoke, one
of them is wrong, or tshark cannot know; each such flow is a sentence.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from midcall.captures.packets.headers import flows
from midcall.captures.packets.pcap import read
from midcall.captures.truth.labels import Label
from midcall.errors import TestbedError

#: What stands in a label's evidence, what tshark must read in such a flow, and what it must not.
#: The first that fits counts.
EXPECTED: tuple[tuple[str, set[str], set[str]], ...] = (
    ("a data channel", {"stun"}, {"rtp"}),
    ("over TLS", {"tls"}, set()),
    ("over HTTPS", {"tls"}, set()),
    ("over QUIC", {"quic"}, set()),
    ("HTTP/1.1 in the clear", {"http"}, set()),
    ("unbound, DNS", {"dns"}, set()),
    ("WireGuard", {"wg"}, set()),
    ("openvpn", {"openvpn"}, set()),
    ("MQTT in the clear", {"mqtt"}, set()),
    ("DTLS", {"dtls"}, {"rtp"}),
    ("STUN bindings", {"stun"}, {"rtp"}),
    ("a relay of a load test", {"stun"}, {"dtls"}),
    ("mosh-server", set(), {"stun", "dtls", "sip"}),
    ("an SRT stream", {"udt"}, {"stun", "dtls", "sip"}),
    ("iperf3", set(), {"stun", "dtls", "sip"}),
    ("game-like", set(), {"stun", "dtls", "sip"}),
    ("errors that the ends' kernels sent", {"icmp"}, set()),
)
#: The same for flows of calls, by app, role and transport; of a relay's ChannelData tshark does not
#: read the inside.
RELAYED = {"stun"}, {"rtp"}
OF_CALLS: Mapping[tuple[str, str, str], tuple[set[str], set[str]]] = {
    ("other-rtc", "media", "udp"): ({"stun", "dtls", "rtp"}, set()),
    ("other-rtc", "setup", "udp"): ({"stun"}, {"rtp"}),
    ("sip", "setup", "udp"): ({"sip"}, {"rtp"}),
    ("sip", "media", "udp"): ({"rtp"}, {"sip"}),
    ("sip", "control", "udp"): ({"rtcp"}, {"sip"}),
}


def missing() -> list[str]:
    """Return what is missing for a second opinion, a sentence each."""
    if shutil.which("tshark") is None:
        return ["tshark is missing: apt-get install tshark"]
    return []


def differences(path: Path, labels: Sequence[Label]) -> list[str]:
    """Return where tshark reads another thing than the truth says, a sentence each.

    Raises TestbedError where tshark cannot be run, and CaptureError for a damaged file.
    """
    told = dissected(path)
    wrong = []
    for row in labels:
        needed, barred = expected(row)
        layers = told.get(row.frame, set())
        lacking, strange = sorted(needed - layers), sorted(barred & layers)
        if lacking or strange:
            words = [f"no {', '.join(lacking)}"] * bool(lacking)
            words += [", ".join(strange)] * bool(strange)
            told_as = f"{row.app} {row.role} ({row.evidence})"
            wrong.append(f"{path.name}: frame {row.frame}: {told_as}: tshark reads {words[0]}")
    counted = {flow.frame: flow.packets for flow in flows(read(path))}
    if counted != {row.frame: row.packets for row in labels}:
        wrong.append(f"{path.name}: the labels' flows are not those of the file")
    return wrong


def expected(row: Label) -> tuple[set[str], set[str]]:
    """Return what tshark must read in a flow, and what it must not."""
    if row.call and row.proto == "udp" and ", relay by" in row.evidence:
        return RELAYED
    if row.call:
        return OF_CALLS.get((row.app, row.role, row.proto), (set(), set()))
    for words, needed, barred in EXPECTED:
        if words in row.evidence:
            return needed, barred
    return set(), set()


def dissected(path: Path) -> dict[int, set[str]]:
    """Return the protocols that tshark reads in each flow, by the flow's first frame."""
    whose = dict(frames(path))
    found: dict[int, set[str]] = defaultdict(set)
    for line in shark(path).splitlines():
        number, _, stack = line.partition("\t")
        if (flow := whose.get(int(number))) is not None:
            found[flow] |= set(stack.replace("srtp", "rtp").split(":"))
    return found


def frames(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (frame, first frame of its flow)."""
    packets = read(path)
    first: dict[object, int] = {}
    for i in range(packets.total):
        for flow in flows(packets.take(slice(i, i + 1))):
            key = flow.proto, frozenset((flow.source, flow.target))
            yield i + 1, first.setdefault(key, i + 1)


def shark(path: Path) -> str:
    """Return a line per frame: its number, a tab, its protocols; raises TestbedError."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number"]
    command += ["-e", "frame.protocols", "--enable-heuristic", "rtp_udp"]
    command += ["--enable-heuristic", "rtcp_udp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise TestbedError(f"tshark: {path.name}: {done.stderr.strip()[-300:]}")
    return done.stdout
