# SPDX-License-Identifier: BSD-3-Clause
"""tshark, one process per capture: the protocols that it dissects in each packet of a flow.

It is not a flow classifier but the common tool to inspect captures. Its heuristics for RTP and for
the content of TURN are off by default and switched on here: without them it finds RTP only after
SIP. A dissector counts for a flow if at least FEWEST of its packets have it, or all of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.peers.labels import Answer, Key

#: Time limit for one capture, seconds.
TIMEOUT = 60.0
FEWEST = 3
HEURISTICS = ("rtp_udp", "rtp_stun", "stun_turn", "dtls_stun")
FIELDS = ("frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
          "udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport")  # fmt: skip
PROTOCOLS = {"udp": 17, "tcp": 6}


class Tshark(NamedTuple):
    """An installed tshark."""

    version: str
    program: str
    name: str = "tshark"
    how: str = f"heuristics {' '.join(HEURISTICS)}, {FEWEST} packets"

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, ""), or ({}, the reason of a failure)."""
        command = [self.program, "-n", "-r", capture, "-T", "fields", "-E", "occurrence=l"]
        command += [word for name in HEURISTICS for word in ("--enable-heuristic", name)]
        command += [word for name in FIELDS for word in ("-e", name)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return {}, f"took more than {TIMEOUT:.0f} s"
        except OSError as error:
            return {}, str(error)
        if done.returncode and not done.stdout:
            return {}, f"ended with code {done.returncode} and no output"
        return parse(done.stdout.decode("utf-8", "replace").splitlines()), ""

    def close(self) -> None:
        """Do nothing: no process is running."""


def find(program: str = "tshark") -> tuple[Tshark | None, str]:
    """Return (peer, ""), or (None, the reason why it cannot be used)."""
    path = shutil.which(program)
    if path is None:
        return None, f"{program} is not installed (Debian: apt install tshark)"
    try:
        done = subprocess.run([path, "-v"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{program} does not run: {error}"
    match = re.search(r"TShark \(Wireshark\) (\d+(?:\.\d+)*)", done.stdout)
    if match is None:
        return None, f"{program} -v prints no version"
    return Tshark(match.group(1), path), ""


def parse(lines: Iterable[str]) -> Answer:
    """Return flow -> labels from one line per packet: the innermost FIELDS, separated by tabs."""
    protocols: dict[Key, Counter[str]] = defaultdict(Counter)
    packets: Counter[Key] = Counter()
    for line in lines:
        parsed = packet(line.split("\t"))
        if parsed is not None:
            flow, words = parsed
            packets[flow] += bool(words)
            protocols[flow].update(set(words))
    return {flow: (label(words, packets[flow]),) for flow, words in protocols.items() if words}


def packet(fields: list[str]) -> tuple[Key, list[str]] | None:
    """Return a packet's flow and the protocols above its innermost transport, None without one."""
    if len(fields) != len(FIELDS):
        return None
    layers = fields[0].split(":")
    if (
        "icmp" in layers or "icmpv6" in layers
    ):  # a packet quoted by an ICMP error is not a packet of the flow
        return None
    at = max((i for i, word in enumerate(layers) if word in PROTOCOLS), default=-1)
    network = [word for word in layers[: max(at, 0)] if word in ("ip", "ipv6")]
    if not network:
        return None
    source, target = fields[1:3] if network[-1] == "ip" else fields[3:5]
    ports = fields[5:7] if layers[at] == "udp" else fields[7:9]
    try:
        flow = key(PROTOCOLS[layers[at]], source, int(ports[0]), target, int(ports[1]))
    except ValueError:
        return None
    return flow, [word for word in layers[at + 1 :] if word != "data"]


def label(words: Counter[str], packets: int) -> str:
    """Return the protocols that enough of a flow's packets have, as one label."""
    return ".".join(sorted(word for word, n in words.items() if n >= min(FEWEST, packets)))
