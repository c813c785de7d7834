# SPDX-License-Identifier: BSD-3-Clause
"""Third-party middleboxes in place of the lab's own: Suricata, a netfilter queue, any program.

The program runs between the box host's two ports and is observed from outside: which packets it
passes, and with what delay. It must forward frames between the two interfaces by itself, in both
directions. `middlebox` is one of

    suricata            Suricata as an inline IPS on packet rings, without rules
    nfqueue             a bridge whose IP packets wait in a netfilter queue for a Python process
    command: WORDS      any program; {caller_port} and {server_port} in its arguments, and
                        MIDCALL_CALLER_PORT and MIDCALL_SERVER_PORT in its environment, name the
                        interfaces

Every program runs in the box's network namespace only, for a bounded time, and ends with the lab.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from midcall.errors import TestbedError
from midcall.locations import ROOT
from midcall.testbed.live.box.rings import ETH_P_ALL, inside
from midcall.testbed.live.box.system import DIE_WITH_PARENT
from midcall.testbed.live.network.network import Network

KINDS = ("suricata", "nfqueue", "command")
#: How long a program may take until it forwards, and to end after a signal.
READY_SECONDS, STOP_SECONDS = 60.0, 5.0
#: ... and the queue's reader, a program of this project: its first start may wait for other
#: processes that compile.
COMPILED_SECONDS = 300.0
#: How long a program may run by default.
LIMIT_SECONDS = 3600.0
#: Interval between two probes.
PROBE_SECONDS = 0.1
#: Start of a probe's payload: plain text, so that no filter classifies it as a call.
PROBE_WORDS = b"probe of the lab: "
#: Lines of a program's output that an error shows.
LAST_LINES = 8

BRIDGE = "mcbridge"
QUEUE = 0

#: drop-invalid: no, because replayed captures may begin in mid-stream and must pass without rules.
SURICATA = """%YAML 1.1
---
default-log-dir: {folder}
stats: {{enabled: no}}
outputs: []
logging:
  default-log-level: notice
  outputs: [{{console: {{enabled: yes}}}}]
af-packet:
  - {{interface: {caller}, copy-iface: {server}, cluster-id: 98, {same}}}
  - {{interface: {server}, copy-iface: {caller}, cluster-id: 97, {same}}}
stream: {{midstream: true, checksum-validation: no, inline: auto, drop-invalid: no}}
exception-policy: ignore
unix-command: {{enabled: no}}
"""
SURICATA_PORT = (
    "threads: 1, cluster-type: cluster_flow, defrag: no, use-mmap: yes, tpacket-v3: no, "
    "ring-size: 16384, block-size: 65536, copy-mode: ips, checksum-checks: no"
)


def kind_of(middlebox: str) -> str:
    """Return the kind of a middlebox; raises TestbedError for one that is none of KINDS."""
    kind = middlebox.partition(":")[0].strip()
    words = middlebox.partition(":")[2].strip()
    if kind not in KINDS or (kind == "command") != bool(words):
        raise TestbedError(
            f'middlebox: got {middlebox!r}, expected "suricata", "nfqueue" or '
            '"command: PROGRAM AND ITS WORDS"'
        )
    return kind


def missing(kind: str) -> list[str]:
    """Return what a kind of middlebox lacks on this machine and how to get it, a sentence each."""
    own = {"suricata": ("suricata",), "nfqueue": ("iptables", "ip")}.get(kind, ())
    tools = (*own, *DIE_WITH_PARENT[:1], "taskset")
    packages = {"ip": "iproute2", "setpriv": "util-linux", "taskset": "util-linux"}
    return [
        f"{tool} is missing: apt-get install {packages.get(tool, tool)}"
        for tool in tools
        if shutil.which(tool) is None
    ]


def placed(core: int | None) -> list[str]:
    """Return the command prefix that starts a program on a core with high priority; [] for None.

    A generator that spins in real time on the other core would otherwise starve any thread of the
    program that the scheduler put on that core.
    """
    return [] if core is None else ["taskset", "-c", str(core), "nice", "-n", "-20"]


class Blackbox:
    """A third-party program as the middlebox of a network; a context manager.

    middlebox: see this module; limit_s: maximum run time in s, after which it is ended; core: the
    core that it is pinned to with high priority, as the lab's own box is, None for neither; rules:
    a file of Suricata rules, None for none.
    """

    def __init__(
        self,
        network: Network,
        middlebox: str,
        *,
        limit_s: float = LIMIT_SECONDS,
        core: int | None = None,
        rules: Path | None = None,
    ) -> None:
        """Describe a box; nothing runs before `start`. Raises TestbedError."""
        self.kind = kind_of(middlebox)
        for line in missing(self.kind):
            raise TestbedError(f"middlebox {self.kind}: {line}")
        self.middlebox = middlebox
        self.network = network
        self.limit_s = limit_s
        self.core = core
        self.rules = b"" if rules is None else rules_of(rules)
        self.process: subprocess.Popen[bytes] | None = None
        self.words = network.folder / "blackbox.words"
        self.timer: threading.Timer | None = None
        self.undo: list[list[str]] = []

    def __enter__(self) -> Blackbox:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Tell whether the program runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the program and wait until frames pass both ways; raises TestbedError."""
        command = [*DIE_WITH_PARENT, *placed(self.core), *self.command()]
        environment = os.environ | {
            "MIDCALL_CALLER_PORT": self.network.ports.b0,
            "MIDCALL_SERVER_PORT": self.network.ports.b1,
        }
        with open(self.words, "wb") as output, inside(self.network.box_pid):
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                    cwd=ROOT,
                )
            except OSError as error:
                raise TestbedError(
                    f"middlebox {self.kind}: {command[0]!r} cannot be started ({error.strerror})"
                ) from None
        self.network.watch(self.process.pid)
        if self.core is not None:
            with suppress(OSError):  # niceness counts within a session alone where this is on
                Path(f"/proc/{self.process.pid}/autogroup").write_text("-20")
        self.timer = threading.Timer(self.limit_s, self.end)
        self.timer.daemon = True
        self.timer.start()
        self.wait_until_it_forwards()

    def command(self) -> list[str]:
        """Return the command line; sets up what the program needs."""
        if self.kind == "suricata":
            return suricata(self.network, self.rules)
        if self.kind == "nfqueue":
            return nfqueue(self.network, self.undo)
        ports = self.network.ports
        line = self.middlebox.partition(":")[2]
        line = line.replace("{caller_port}", ports.b0).replace("{server_port}", ports.b1)
        try:
            return shlex.split(line)
        except ValueError as error:
            raise TestbedError(f"middlebox command: {line.strip()!r}: {error}") from None

    def wait_until_it_forwards(self) -> None:
        """Send probes until one has passed each way; raises TestbedError with its last output."""
        ends = self.network.ends()
        timeout = COMPILED_SECONDS if self.kind == "nfqueue" else READY_SECONDS
        until = time.monotonic() + timeout
        for source, target in ((ends[0], ends[3]), (ends[3], ends[0])):
            if not passes(source, target, until, lambda: self.alive):
                self.end()
                why = "forwards nothing" if time.monotonic() >= until else "ended at once"
                raise TestbedError(f"middlebox {self.kind} {why}; it said:\n{self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines that the program wrote."""
        try:
            lines = self.words.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-LAST_LINES:]) or "    nothing"

    def end(self) -> None:
        """End the program and its children: by SIGTERM, then by SIGKILL."""
        process = self.process
        if process is None:
            return
        for number, timeout in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
                break
        with suppress(ProcessLookupError):  # children that outlived it
            os.killpg(process.pid, signal.SIGKILL)
            until = time.monotonic() + STOP_SECONDS
            while time.monotonic() < until:  # a killed process disappears a little later
                os.killpg(process.pid, 0)
                time.sleep(0.005)

    def stop(self) -> None:
        """End the program and undo its set-up."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.end()
        self.process = None
        undo, self.undo = self.undo, []
        if undo and self.network.net is not None:
            with inside(self.network.box_pid):
                for step in reversed(undo):
                    run_quietly(step)


# ---- set-up of each kind


def rules_of(path: Path) -> bytes:
    """Return the content of a file of Suricata rules; raises TestbedError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TestbedError(f"{path}: Suricata's rules cannot be read ({error.strerror})") from None


def suricata(network: Network, rules: bytes = b"") -> list[str]:
    """Return the command of Suricata as an inline IPS under rules; writes its configuration."""
    ports, folder = network.ports, network.folder
    path = folder / "suricata.yaml"
    path.write_text(
        SURICATA.format(folder=folder, caller=ports.b0, server=ports.b1, same=SURICATA_PORT)
    )
    rule_file = folder / "suricata.rules"
    rule_file.write_bytes(rules)
    return ["suricata", "-c", str(path), "-S", str(rule_file), "-l", str(folder), "--af-packet"]


def nfqueue(network: Network, undo: list[list[str]]) -> list[str]:
    """Bridge the two ports, queue what crosses the bridge; return the command of the reader.

    undo: the commands that reverse the set-up are appended to it.
    """
    ports = network.ports
    steps = [
        ["ip", "link", "set", BRIDGE, "addrgenmode", "none", "mtu", str(network.mtu)],
        *(["ip", "link", "set", port, "master", BRIDGE] for port in (ports.b0, ports.b1)),
        ["ip", "link", "set", BRIDGE, "up"],
    ]
    with inside(network.box_pid):
        run(["ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"])
        undo.append(["ip", "link", "delete", BRIDGE])
        for step in steps:
            run(step)
        for name in ("iptables", "ip6tables"):
            call_netfilter(name)
            rule = ["FORWARD", "-j", "NFQUEUE", "--queue-num", str(QUEUE)]
            variant = working(name)
            run([variant, "-I", *rule])
            undo.append([variant, "-D", *rule])
    return [sys.executable, "-m", "midcall.testbed.live.devices.nfqueue", str(QUEUE)]


def call_netfilter(name: str) -> None:
    """Configure bridges to hand IP packets to netfilter, in this network namespace."""
    path = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
    try:
        if path.read_text().strip() != "1":
            path.write_text("1")
    except OSError as error:
        raise TestbedError(
            f"middlebox nfqueue: {path} cannot be set to 1 ({error.strerror}); it needs the kernel "
            "module br_netfilter: modprobe br_netfilter"
        ) from None


def working(name: str) -> str:
    """Return the variant of iptables that can queue packets on this kernel; raises TestbedError.

    Whether nftables or the older tables support NFQUEUE depends on the kernel's configuration.
    """
    variants = (name, f"{name}-nft", f"{name}-legacy")
    for variant in variants:
        rule = ["FORWARD", "-j", "NFQUEUE", "--queue-num", "999"]
        if shutil.which(variant) and not run_quietly([variant, "-I", *rule]):
            run([variant, "-D", *rule])
            return variant
    raise TestbedError(
        f"middlebox nfqueue: none of {', '.join(variants)} can add an NFQUEUE rule here: the "
        "kernel needs CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
    )


def run_quietly(command: list[str]) -> str:
    """Run a set-up command; returns its error message, "" for success."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def run(command: list[str]) -> None:
    """Run a set-up command; raises TestbedError with its error message."""
    problem = run_quietly(command)
    if problem:
        raise TestbedError(f"middlebox nfqueue: {' '.join(command)}: {problem}")


# ---- probes


def probe_frame(token: bytes) -> bytes:
    """Return a small UDP frame to the discard port, with a token, between addresses of the lab."""
    from_to = bytes((198, 18, 0, 9)) + bytes((198, 19, 0, 9))
    body = (PROBE_WORDS + token).ljust(48, b"\0")
    head = b"\x45\0" + (28 + len(body)).to_bytes(2, "big") + b"\0\0\x40\0\x40\x11\0\0" + from_to
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    total = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    head = head[:10] + total.to_bytes(2, "big") + head[12:]
    datagram = (9).to_bytes(2, "big") * 2 + (8 + len(body)).to_bytes(2, "big") + b"\0\0" + body
    return bytes.fromhex("02ff0000000202ff000000010800") + head + datagram


def passes(
    source: tuple[int, str], target: tuple[int, str], until: float, alive: Callable[[], bool]
) -> bool:
    """Send probes from one end until one arrives at the other; tells whether one did.

    An end is (process, interface); gives up at `until` (monotonic, s) or when `alive` is false.
    """
    token = secrets.token_bytes(16)
    frame = probe_frame(token)
    with port(*source) as sender, port(*target) as receiver:
        receiver.settimeout(PROBE_SECONDS)
        while time.monotonic() < until and alive():
            sender.send(frame)
            pause = time.monotonic() + PROBE_SECONDS
            with suppress(TimeoutError):
                while time.monotonic() < pause:
                    if token in receiver.recv(2048):
                        return True
    return False


def port(pid: int, interface: str) -> socket.socket:
    """Return a packet socket on an interface in the network namespace of a process."""
    with inside(pid):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    opened.bind((interface, ETH_P_ALL))
    return opened
