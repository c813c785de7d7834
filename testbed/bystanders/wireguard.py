# SPDX-License-Identifier: BSD-3-Clause
"""WireGuard: pages inside a tunnel between two wireguard-go, the protocol's user-space program.

The kernel's own is the same on the wire; user space needs no module.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed.bystanders import web
from testbed.bystanders.bystander import Act, Service, Stage
from testbed.callers.program import lacking as lacking_tools
from testbed.errors import TestbedError
from testbed.live.line import CALLEE, ip
from testbed.live.rings import inside

#: The far end answers from its interface's own address, as it listens at all of them.
ADDRESS, PORT = CALLEE, 51820
NEAR_INSIDE, FAR_INSIDE = "10.77.0.2", "10.77.0.1"
#: Where wireguard-go puts the socket by which `wg` talks to it.
SOCKETS = Path("/var/run/wireguard")


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    tools = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}
    found = lacking_tools(tools) + web.missing(kind)
    if not Path("/dev/net/tun").exists():
        found.append("/dev/net/tun is missing: modprobe tun (Docker: --device /dev/net/tun)")
    return found


def start(stage: Stage, kind: str) -> Act:
    """Bring both ends of the tunnel up and serve pages inside it."""
    del kind
    line = stage.line
    keys = [wg("genkey").strip() for _ in range(2)]
    ends = (
        (line.caller_pid, f"wg{line.network.run}c", NEAR_INSIDE, keys[0], keys[1]),
        (line.server_pid, f"wg{line.network.run}s", FAR_INSIDE, keys[1], keys[0]),
    )
    for pid, name, inner, own, other in ends:
        near = pid == line.caller_pid
        begun = stage.client if near else stage.server
        program = begun(["wireguard-go", "--foreground", name], name)
        socket = SOCKETS / f"{name}.sock"
        stage.stack.callback(socket.unlink, missing_ok=True)
        program.wait_for(socket.exists, 10, "its socket")
        configure(pid, name, own, other, near)
        ip(pid, "address", "add", f"{inner}/24", "dev", name)
        ip(pid, "link", "set", "dev", name, "mtu", "1340", "up")
    pages = web.visits(stage, FAR_INSIDE, "web-http2")
    speaks = "wireguard-go, a WireGuard tunnel"
    return Act((Service("udp", ADDRESS, PORT, speaks),), pages.act)


def configure(pid: int, name: str, own: str, other: str, near: bool) -> None:
    """Tell one end its key and its peer's; raises TestbedError."""
    peer = ["peer", wg("pubkey", told=other).strip(), "allowed-ips", "10.77.0.0/24"]
    peer += ["endpoint", f"{ADDRESS}:{PORT}", "persistent-keepalive", "5"] if near else []
    port = [] if near else ["listen-port", str(PORT)]
    with inside(pid):
        wg("set", name, "private-key", "/dev/stdin", *port, *peer, told=own)


def wg(*words: str, told: str = "") -> str:
    """Run WireGuard's tool in this thread's namespace; raises TestbedError with its own words."""
    done = subprocess.run(
        ["wg", *words], input=told, capture_output=True, text=True, check=False, timeout=10
    )
    if done.returncode:
        raise TestbedError(f"wg {words[0]}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout
