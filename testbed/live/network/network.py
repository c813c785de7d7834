# SPDX-License-Identifier: BSD-3-Clause
"""The emulated network: caller, box and server as Mininet hosts, joined by plain virtual links.

    caller  c0 ------ b0  box  b1 ------ s0  server

No interface has an address and no namespace a route: frames are put on the links and taken from
them unchanged (testbed.live.box.rings), and the kernels in between must not answer. Names are
unique per run, so several networks can exist at once. A state file names the process that made
each network; `sweep` removes what dead processes left and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, NoReturn

from midcall.errors import TestbedError
from midcall.testbed.live.network import nic_offloads

#: Folder of the runs' private folders; a RAM disk on most systems.
RUNS = Path(os.environ.get("MIDCALL_LIVE", "/run/midcall"))
STATE = "state.json"
#: Name of a run's folder while it is made: this prefix, the run, a dot and the maker's process id.
DRAFT = ".mc"
MINIMUM_MTU, MAXIMUM_MTU = 576, 1900
#: What a network needs of root's capabilities, and their numbers.
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}
INSTALL = "install Mininet: pip install 'midcall[live]' and apt-get install mininet (for mnexec)"


class Ports(NamedTuple):
    """Names of the four interfaces between one caller and one server, in the order of the path."""

    c0: str
    b0: str
    b1: str
    s0: str


class Network:
    """A caller, a box and a server in network namespaces of their own; a context manager.

    folder: private to the run, on the machine's /run. caller_pid, box_pid, server_pid: processes
    that hold the namespaces. ports: the names of the four interfaces.
    """

    def __init__(
        self, callers: int = 1, servers: int = 1, mtu: int = 1500, run: str | None = None
    ) -> None:
        """Describe a network; nothing is made before it is entered.

        mtu: of every link, 576 to 1,900 bytes. run: 6 hex digits, drawn when not given.
        """
        if not MINIMUM_MTU <= mtu <= MAXIMUM_MTU:
            raise TestbedError(f"mtu: got {mtu}, expected {MINIMUM_MTU} to {MAXIMUM_MTU}")
        if callers != 1 or servers != 1:
            raise TestbedError(
                f"callers, servers: got {callers} and {servers}, expected 1 and 1; "
                "for more, make a network each"
            )
        self.mtu = mtu
        self.run = run or secrets.token_hex(3)
        self.folder = RUNS / f"mc{self.run}"
        self.ports = Ports(*(f"mc{self.run}-{end}" for end in Ports._fields))
        self.net: Any = None
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Network:
        """Make namespaces and links, offloads off, and prove that frames arrive whole."""
        require()
        sweep()
        try:
            self.catch_signals()
            self.make_folder()
            self.build()
            for pid, name in self.ends():
                nic_offloads.switch_off(pid, name)
            self.check_links()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self.close()

    def ends(self) -> tuple[tuple[int, str], ...]:
        """Return (process, interface) of the four ends of links, in the order of the path."""
        pids = (self.caller_pid, self.box_pid, self.box_pid, self.server_pid)
        return tuple(zip(pids, self.ports, strict=True))

    def build(self) -> None:
        """Start the hosts and join them, by Mininet."""
        mininet, node = import_mininet()
        self.net = mininet(controller=None)
        pids = []
        for word in ("c", "b", "s"):
            host = self.net.addHost(f"mc{self.run}{word}", cls=node, ip=None)
            pids.append(int(host.pid))
            self.note(pids)
        caller, box, server = self.net.hosts
        self.caller_pid, self.box_pid, self.server_pid = pids
        c0, b0, b1, s0 = self.ports
        self.net.addLink(caller, box, intfName1=c0, intfName2=b0)
        self.net.addLink(box, server, intfName1=b1, intfName2=s0)
        for host in self.net.hosts:
            host.cmd("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
            for name in host.nameToIntf:
                host.cmd(f"ip link set dev {name} mtu {self.mtu} arp off addrgenmode none up")

    def check_links(self) -> None:
        """Assert that checksums are written before a frame crosses, on both links, both ways."""
        c0, b0, b1, s0 = self.ends()
        for one, other in ((c0, b0), (b0, c0), (b1, s0), (s0, b1)):
            nic_offloads.assert_whole(*one, *other)

    def make_folder(self) -> None:
        """Make the run's folder, which contains its state file from the first moment on.

        Until then its name contains the maker's process id, so that another lab can sweep it, too.
        """
        draft = RUNS / f"{DRAFT}{self.run}.{os.getpid()}"
        draft.mkdir(parents=True, mode=0o700)
        (draft / STATE).write_text(self.state([]))
        draft.rename(self.folder)

    def state(self, pids: list[int]) -> str:
        """Return the state as JSON: what another lab must remove if this one is killed."""
        state = {
            "lab": identity(os.getpid()),
            "processes": [identity(pid) for pid in pids],
            "interfaces": list(self.ports),
        }
        return json.dumps(state)

    def note(self, pids: list[int]) -> None:
        """Write the state file: what another lab must remove if this one is killed."""
        draft = self.folder / "state.new"
        draft.write_text(self.state(pids))
        draft.replace(self.folder / STATE)

    def watch(self, pid: int) -> None:
        """Add a process, to be ended with the network, to the state file."""
        path = self.folder / STATE
        state = json.loads(path.read_text())
        state["processes"].append(identity(pid))
        draft = self.folder / "state.new"
        draft.write_text(json.dumps(state))
        draft.replace(path)

    def close(self) -> None:
        """Remove processes, namespaces, links and the folder; missing ones are no error."""
        net, self.net = self.net, None
        if net is not None:
            with suppress(Exception):
                net.stop()
        clear(self.folder)
        self.release_signals()

    def catch_signals(self) -> None:
        """Turn SIGTERM and SIGHUP into exceptions, so that the network is removed with the lab."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                self.handlers[number] = signal.signal(number, leave)

    def release_signals(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """End the program through its `finally` clauses."""
    del frame
    raise SystemExit(128 + number)


def require() -> None:
    """Raise TestbedError with the first thing that a live network lacks on this machine."""
    for line in missing():
        raise TestbedError(f"live: {line}")


def missing() -> list[str]:
    """Return what a live network lacks on this machine and how to get it, a sentence each."""
    lacks = []
    if not hasattr(os, "geteuid") or not Path("/proc/self/ns/net").exists():
        return ["it needs Linux with network namespaces; elsewhere use the Docker image"]
    if os.geteuid() != 0:
        lacks.append("it needs root: say sudo, or use the Docker image")
    elif names := capabilities_lacking():
        lacks.append(
            f"root here lacks {', '.join(names)}: in a container say "
            + " ".join(f"--cap-add {name}" for name in names)
        )
    if shutil.which("mnexec") is None:
        lacks.append("mnexec is missing: apt-get install mininet")
    try:
        import_mininet()
    except TestbedError as error:
        lacks.append(str(error))
    packages = {"ip": "iproute2", "ifconfig": "net-tools", "setpriv": "util-linux"}
    for tool in ("ip", "ifconfig", "bash", "setpriv"):
        if shutil.which(tool) is None:
            package = packages.get(tool, tool)
            lacks.append(f"{tool} is missing: apt-get install {package}")
    return lacks


def capabilities_lacking() -> list[str]:
    """Return the names of the required capabilities (capabilities(7)) that this process lacks.

    Mininet would wait for ever for a host that cannot have a namespace.
    """
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


def import_mininet() -> tuple[Any, Any]:
    """Return Mininet's network and host classes; raises TestbedError.

    Mininet would raise limits of the whole machine when first used (buffers, tables, ptys); this
    network does not need that, so it is prevented.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mininet.net import Mininet
            from mininet.node import Node
    except ImportError as error:
        raise TestbedError(f"Mininet cannot be imported ({error}): {INSTALL}") from None
    Mininet.inited = True
    return Mininet, Node


# ---- remains of dead runs


def start_time(pid: int) -> int | None:
    """Return the start time of a process, in clock ticks since boot; None if gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid: int) -> list[int]:
    """Return the unique identity of a process: its id and its start time (0: gone already)."""
    return [pid, start_time(pid) or 0]


def alive(process: list[int]) -> bool:
    """Tell whether a process of a state file still runs, and is the same one."""
    return start_time(process[0]) == process[1]


def sweep() -> list[str]:
    """Remove what dead labs left (kill -9, a crash); returns the names of the runs."""
    swept = []
    for draft in sorted(RUNS.glob(f"{DRAFT}*.*")):
        maker = draft.name.rpartition(".")[2]
        if maker.isdigit() and start_time(int(maker)) is None:
            shutil.rmtree(draft, ignore_errors=True)
    for folder in sorted(RUNS.glob("mc*")):
        try:
            state = json.loads((folder / STATE).read_text())
            dead = not alive(state["lab"])
        except FileNotFoundError:
            continue  # being made, or being removed
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            dead = False  # not a state file of this lab
        if dead:
            clear(folder)
            swept.append(folder.name)
    return swept


def clear(folder: Path) -> None:
    """End the processes and remove the interfaces and files that a run's state file names."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        state = {"processes": [], "interfaces": []}
    for process in state["processes"]:
        if alive(process):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process[0], signal.SIGKILL)
    for name in state["interfaces"]:  # Mininet makes links in this namespace before it moves them
        if Path(f"/sys/class/net/{name}").exists():
            command = ["ip", "link", "delete", name]
            subprocess.run(command, capture_output=True, check=False, timeout=20)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        RUNS.rmdir()
