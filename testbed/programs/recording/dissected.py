# SPDX-License-Identifier: BSD-3-Clause
"""Compare tshark's dissection of each recorded flow with the truth from its programs.

tshark does not influence the truth. Where its protocols differ from those of the programs, one of
them is wrong, or tshark cannot recognise the protocol; each such flow is a sentence.
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

#: A text in a label's evidence, the protocols that tshark must find in such a flow, and those that
#: it must not. The first match counts.
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
#: The same for flows of calls, by app, role and transport; tshark does not dissect the content of a
#: relay's ChannelData.
RELAYED = {"stun"}, {"rtp"}
OF_CALLS: Mapping[tuple[str, str, str], tuple[set[str], set[str]]] = {
    ("other-rtc", "media", "udp"): ({"stun", "dtls", "rtp"}, set()),
    ("other-rtc", "setup", "udp"): ({"stun"}, {"rtp"}),
    ("sip", "setup", "udp"): ({"sip"}, {"rtp"}),
    ("sip", "media", "udp"): ({"rtp"}, {"sip"}),
    ("sip", "control", "udp"): ({"rtcp"}, {"sip"}),
}


def missing() -> list[str]:
    """Return what is missing for the comparison, a sentence each."""
    if shutil.which("tshark") is None:
        return ["tshark is missing: apt-get install tshark"]
    return []


def differences(path: Path, labels: Sequence[Label]) -> list[str]:
    """Return where tshark's dissection differs from the truth, a sentence each.

    Raises TestbedError where tshark cannot be run, and CaptureError for a damaged file.
    """
    protocols = dissected(path)
    wrong = []
    for row in labels:
        needed, barred = expected(row)
        layers = protocols.get(row.frame, set())
        lacking, strange = sorted(needed - layers), sorted(barred & layers)
        if lacking or strange:
            words = [f"no {', '.join(lacking)}"] * bool(lacking)
            words += [", ".join(strange)] * bool(strange)
            label = f"{row.app} {row.role} ({row.evidence})"
            wrong.append(f"{path.name}: frame {row.frame}: {label}: tshark reads {words[0]}")
    counted = {flow.frame: flow.packets for flow in flows(read(path))}
    if counted != {row.frame: row.packets for row in labels}:
        wrong.append(f"{path.name}: the labels' flows are not those of the file")
    return wrong


def expected(row: Label) -> tuple[set[str], set[str]]:
    """Return the protocols that tshark must find in a flow, and those that it must not."""
    if row.call and row.proto == "udp" and ", relay by" in row.evidence:
        return RELAYED
    if row.call:
        return OF_CALLS.get((row.app, row.role, row.proto), (set(), set()))
    for words, needed, barred in EXPECTED:
        if words in row.evidence:
            return needed, barred
    return set(), set()


def dissected(path: Path) -> dict[int, set[str]]:
    """Return the protocols that tshark finds in each flow, by the flow's first frame."""
    flow_of_frame = dict(frames(path))
    protocols: dict[int, set[str]] = defaultdict(set)
    for line in tshark_protocols(path).splitlines():
        number, _, stack = line.partition("\t")
        if (flow := flow_of_frame.get(int(number))) is not None:
            protocols[flow] |= set(stack.replace("srtp", "rtp").split(":"))
    return protocols


def frames(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (frame, first frame of its flow)."""
    packets = read(path)
    first: dict[object, int] = {}
    for i in range(packets.total):
        for flow in flows(packets.take(slice(i, i + 1))):
            key = flow.proto, frozenset((flow.source, flow.target))
            yield i + 1, first.setdefault(key, i + 1)


def tshark_protocols(path: Path) -> str:
    """Return a line per frame: its number, a tab, its protocols; raises TestbedError."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number"]
    command += ["-e", "frame.protocols", "--enable-heuristic", "rtp_udp"]
    command += ["--enable-heuristic", "rtcp_udp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise TestbedError(f"tshark: {path.name}: {done.stderr.strip()[-300:]}")
    return done.stdout
