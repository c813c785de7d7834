# SPDX-License-Identifier: BSD-3-Clause
"""Tools: the programs that the path is measured beside, each as its own manual runs it offline.

Nothing is tuned for or against a peer: ndpiReader and Suricata as packaged (Suricata without rules
and logs, one thread), nfstream with one meter and its defaults, tshark printing five fields, dpkt
and scapy in the plainest loop that keeps a table of flows.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

#: A program may take so long on one file, in seconds.
PATIENCE = 60

#: Runs a program and says how long it took and its peak memory (bytes). It is a small process of
#: its own: Linux counts the memory of whoever forked as the child's until that grows larger.
LAUNCH = """
import os, signal, sys, time
started = time.perf_counter()
quiet = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions, setpgroup=0)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(pid, signal.SIGKILL))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
signal.alarm(int(sys.argv[1]))
try:
    _, status, usage = os.wait4(pid, 0)
except BaseException:
    os.killpg(pid, signal.SIGKILL)
    raise
print(os.waitstatus_to_exitcode(status), time.perf_counter() - started, usage.ru_maxrss * 1024)
"""

NFSTREAM = """
import sys, warnings
warnings.simplefilter("ignore")
from nfstream import NFStreamer
if __name__ == "__main__":
    print(sum(1 for _ in NFStreamer(source=sys.argv[1], n_meters=1)))
"""

DPKT = """
import sys
import dpkt
flows = {}
with open(sys.argv[1], "rb") as file:
    for _, frame in dpkt.pcap.Reader(file):
        ip = dpkt.ethernet.Ethernet(frame).data
        if isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)):
            ends = (getattr(ip.data, "sport", 0), getattr(ip.data, "dport", 0))
            key = frozenset(((ip.src, ends[0]), (ip.dst, ends[1]))), ip.p
            flows[key] = flows.get(key, 0) + 1
print(len(flows))
"""

SCAPY = """
import sys
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader
flows = {}
for frame, _ in RawPcapReader(sys.argv[1]):
    packet = Ether(frame)
    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    inner = packet.getlayer(TCP) or packet.getlayer(UDP)
    if ip is not None:
        ends = (inner.sport, inner.dport) if inner is not None else (0, 0)
        key = frozenset(((ip.src, ends[0]), (ip.dst, ends[1])))
        flows[key] = flows.get(key, 0) + 1
print(len(flows))
"""

FIELDS = ("ip.src", "ip.dst", "udp.port", "tcp.port", "_ws.col.Protocol")
QUIET = ("outputs.0.fast.enabled=no", "outputs.1.eve-log.enabled=no", "stats.enabled=no")


class Tool(NamedTuple):
    """A peer: how to find it, how to run it on a file, and how many packets it gets (0: all)."""

    command: Callable[[str, str], list[str]]  # (program, file) -> argv
    program: str = ""
    module: str = ""
    packets: int = 0

    def found(self) -> str | None:
        """Return the program's path, None where it is not installed."""
        if self.module:
            return sys.executable if importlib.util.find_spec(self.module) else None
        return shutil.which(self.program)

    def version(self) -> str:
        """Return what the tool says of its version, in a few words."""
        if self.module:
            return importlib.metadata.version(self.module)
        flag = "-V" if self.program == "suricata" else "--version"
        done = subprocess.run(
            [self.program, flag], capture_output=True, text=True, check=False, timeout=60
        )
        return (done.stdout or done.stderr).strip().split("\n")[0][:80]


def suricata(program: str, file: str) -> list[str]:
    """Return Suricata's command: offline, no rules, no logs, one thread."""
    logs = tempfile.gettempdir()
    settings = [word for one in QUIET for word in ("--set", one)]
    quiet = ["-k", "none", "-S", "/dev/null", "--runmode", "single", *settings]
    return [program, "-r", file, "-l", logs, *quiet]


def tshark(program: str, file: str) -> list[str]:
    """Return tshark's command: names unresolved, five fields."""
    fields = [word for one in FIELDS for word in ("-e", one)]
    return [program, "-n", "-r", file, "-T", "fields", *fields]


def script(text: str) -> Callable[[str, str], list[str]]:
    """Return the command of a loop in Python."""
    return lambda program, file: [program, "-c", text, file]


def nfstream(program: str, file: str) -> list[str]:
    """Return nfstream's command; its worker processes need a file to start again from."""
    path = Path(tempfile.gettempdir()) / "midcall-bench-nfstream.py"
    path.write_text(NFSTREAM, encoding="utf-8")
    return [program, str(path), file]


def own_command(program: str, file: str) -> list[str]:
    """Return the command that people run, with its rows as Parquet."""
    rows = Path(tempfile.gettempdir()) / "midcall-bench-rows.parquet"
    return [program, "-m", "midcall", "classify", file, "-o", str(rows)]


TOOLS: dict[str, Tool] = {
    "command": Tool(own_command, module="midcall"),
    "ndpireader": Tool(lambda program, file: [program, "-q", "-i", file], "ndpiReader"),
    "suricata": Tool(suricata, "suricata"),
    "nfstream": Tool(nfstream, module="nfstream", packets=200_000),
    "dpkt": Tool(script(DPKT), module="dpkt", packets=100_000),
    "tshark": Tool(tshark, "tshark", packets=100_000),
    "scapy": Tool(script(SCAPY), module="scapy", packets=10_000),
}


class OutOfPatienceError(Exception):
    """A program took longer than it may."""


def run(
    command: list[str], settings: Mapping[str, str] | None = None, patience: int | None = None
) -> tuple[float, int]:
    """Return the seconds and the peak memory (bytes) of one run; exits where it fails.

    settings: what its environment has beside this process's; patience: seconds it may take, None
    for PATIENCE. Raises OutOfPatienceError.
    """
    patience = patience or PATIENCE
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, str(patience), *command]
    environment = {**os.environ, **(settings or {})}
    done = subprocess.run(launcher, capture_output=True, text=True, check=True, env=environment)
    code, seconds, peak = done.stdout.split()
    if int(code) == -signal.SIGKILL and float(seconds) >= patience:
        raise OutOfPatienceError
    if code != "0":
        raise SystemExit(f"bench: {' '.join(command)[:300]} ended with code {code}")
    return float(seconds), int(peak)
