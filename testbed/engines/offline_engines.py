# SPDX-License-Identifier: BSD-3-Clause
"""Suricata and nDPI in their offline modes: a capture file in, an answer per packet or flow out."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from midcall.captures.packets.writer import write_pcapng
from midcall.errors import TestbedError
from midcall.testbed.engines import ndpi_rules, suricata_rules
from midcall.testbed.engines.lab_capture import ETHERNET, Answers, LabPacket, as_packets
from midcall.testbed.policy.operator import Policy

#: Seconds that one run of an engine may take.
LIMIT = 120.0
#: Seconds without a packet after which Suricata forgets a flow, with its bits: ten days.
FLOW_SECONDS = 864_000
#: Ethernet headers of the two directions.
UP_HEAD = bytes.fromhex("02ff0000000202ff00000001")
DOWN_HEAD = bytes.fromhex("02ff0000000102ff00000002")

CONFIGURATION = """%YAML 1.1
---
vars:
  address-groups: {{HOME_NET: "{home}", EXTERNAL_NET: any}}
default-log-dir: {folder}
stats: {{enabled: no}}
logging: {{default-log-level: warning, outputs: [{{console: {{enabled: yes}}}}]}}
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [{{drop: {{alerts: no, flows: all}}}}]
stream: {{midstream: true, checksum-validation: no, inline: yes, drop-invalid: no}}
exception-policy: ignore
flow-timeouts:
  default: {{new: {longest}, established: {longest}, closed: {longest}}}
  tcp: {{new: {longest}, established: {longest}, closed: {longest}}}
  udp: {{new: {longest}, established: {longest}}}
  icmp: {{new: {longest}, established: {longest}}}
app-layer:
  protocols:
    tls: {{enabled: yes, encryption-handling: full}}
    http: {{enabled: yes}}
    quic: {{enabled: yes}}
    dns: {{udp: {{enabled: yes}}, tcp: {{enabled: yes}}}}
"""


class Suricata:
    """Suricata, which reads a file as an inline box would see its packets (--simulate-ips)."""

    def __init__(self) -> None:
        """Find the program; raises TestbedError."""
        if shutil.which("suricata") is None:
            raise TestbedError("suricata is missing: apt-get install suricata")
        self.rules = ""

    def load(self, policy: Policy) -> None:
        """Take over the rules of a policy; raises Refused."""
        self.rules = suricata_rules.written(policy).files[suricata_rules.FILE]

    def load_text(self, text: str) -> None:
        """Take over rules of somebody else."""
        self.rules = text

    def test(self) -> str:
        """Return what the engine's test of the rules prints; raises TestbedError where it fails."""
        with tempfile.TemporaryDirectory() as folder:
            return self.run(Path(folder), ["198.18.0.0/15", "fd00::/8"], "-T")

    def clear(self) -> None:
        """Unload every rule."""
        self.rules = ""

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        """Return which packets are not dropped; without rules, none is."""
        passes = np.ones(len(chosen), np.bool_)
        if not chosen or not self.rules:
            return Answers(passes)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_frames(folder / "in.pcapng", chosen)
            home = sorted({one.subscriber for one in chosen})
            words = self.run(folder, home, "-r", str(folder / "in.pcapng"), "--simulate-ips")
            if "error parsing signature" in words:
                raise TestbedError(f"suricata leaves a rule out: {words}")
            with (folder / "eve.json").open(encoding="utf-8") as lines:
                for line in lines:
                    event = json.loads(line)
                    if event.get("event_type") == "drop" and "pcap_cnt" in event:
                        passes[event["pcap_cnt"] - 1] = False
        return Answers(passes)

    def run(self, folder: Path, home: Sequence[str], *words: str) -> str:
        """Run Suricata on the rules; returns its warnings, raises TestbedError where it fails."""
        (folder / "suricata.yaml").write_text(
            CONFIGURATION.format(home=f"[{','.join(home)}]", folder=folder, longest=FLOW_SECONDS)
        )
        (folder / "midcall.rules").write_text(self.rules)
        command = ["suricata", "-c", str(folder / "suricata.yaml"), "-S"]
        command += [str(folder / "midcall.rules"), "-l", str(folder), "--runmode", "single", *words]
        done = bounded(command, folder)
        warnings = "\n".join(
            line for line in (done.stdout + done.stderr).splitlines()
            if line.startswith(("W:", "E:", "Warning", "Error"))
        )  # fmt: skip
        if done.returncode:
            raise TestbedError(f"suricata: {warnings or f'exit {done.returncode}'}")
        return warnings


class Ndpi:
    """ndpiReader with a file of protocols: which flows it gives the name of a rule."""

    def __init__(self) -> None:
        """Find the program; raises TestbedError."""
        if shutil.which("ndpiReader") is None:
            raise TestbedError("ndpiReader is missing: apt-get install libndpi-bin")
        self.protocols = ""

    def load(self, policy: Policy) -> None:
        """Take over the protocols of a policy; raises Refused."""
        self.protocols = ndpi_rules.written(policy).files[ndpi_rules.FILE]

    def clear(self) -> None:
        """Unload every rule."""
        self.protocols = ""

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        """Return as passing the packets of the flows that no rule matches."""
        passes = np.ones(len(chosen), np.bool_)
        if not chosen or not self.protocols:
            return Answers(passes)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_frames(folder / "in.pcapng", chosen)
            (folder / ndpi_rules.FILE).write_text(self.protocols)
            command = ["ndpiReader", "-i", str(folder / "in.pcapng"), "-q", "-C"]
            command += [str(folder / "out.csv"), "-p", str(folder / ndpi_rules.FILE)]
            done = bounded(command, folder)
            if done.returncode or not (folder / "out.csv").is_file():
                raise TestbedError(f"ndpiReader: {done.stderr.strip() or done.returncode}")
            met = set()
            with (folder / "out.csv").open(encoding="utf-8", errors="replace") as text:
                for row in csv.DictReader(line.lstrip("#") for line in text):
                    if ndpi_rules.PREFIX in (row.get("ndpi_proto") or ""):
                        ends = ((row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"]))
                        met.add((row["protocol"], frozenset(ends)))
        for i, one in enumerate(chosen):
            passes[i] = flow_key(one) not in met
        return Answers(passes)


def bounded(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an engine in a folder; raises TestbedError where it does not end within LIMIT."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LIMIT, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise TestbedError(f"{command[0]} did not end within {LIMIT:.0f} s") from None


def flow_key(one: LabPacket) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a packet's flow as nDPI's rows have it."""
    four = one.data[0] >> 4 == 4
    proto = one.data[9] if four else one.data[6]
    at = 4 * (one.data[0] & 15) if four else 40
    ports = ("0", "0")
    if proto in (6, 17) and len(one.data) >= at + 4:
        numbers = (one.data[at : at + 2], one.data[at + 2 : at + 4])
        ports = (str(int.from_bytes(numbers[0], "big")), str(int.from_bytes(numbers[1], "big")))
    ends = ((one.address(True), ports[0]), (one.address(False), ports[1]))
    return str(proto), frozenset(ends)


def write_frames(path: Path, chosen: Sequence[LabPacket]) -> None:
    """Write packets as Ethernet frames of a pcapng file."""
    heads = [
        (UP_HEAD if one.up else DOWN_HEAD) + (b"\x08\x00" if one.data[0] >> 4 == 4 else b"\x86\xdd")
        for one in chosen
    ]
    frames = [one._replace(data=head + one.data) for head, one in zip(heads, chosen, strict=True)]
    packets = as_packets(frames)
    write_pcapng(path, packets._replace(link=np.full(len(frames), ETHERNET, np.int64)))
