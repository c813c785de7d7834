# SPDX-License-Identifier: BSD-3-Clause
"""WireGuard: web pages in a tunnel between two wireguard-go, the user-space implementation.

Its packets are the same as the kernel's; user space needs no module.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from midcall.errors import TestbedError
from midcall.testbed.live.network.subscriber_line import CALLEE
from midcall.testbed.programs.background import web
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.process import Program
from midcall.testbed.programs.process import lacking as lacking_tools

#: The remote end listens at all addresses, and answers from its interface's own.
ADDRESS, PORT = CALLEE, 51820
CLIENT_INSIDE, SERVER_INSIDE, INSIDE = "10.77.0.2", "10.77.0.1", "10.77.0.0/24"
#: `wg` configures wireguard-go by a socket below /run: each end has a /run of its own, which is
#: removed with it. $1 that folder, $2 interface, $3 configuration, $4 address.
END = """
mount --bind "$1" /run
wireguard-go --foreground "$2" &
for _ in $(seq 100); do [ -S "/run/wireguard/$2.sock" ] && break; sleep 0.1; done
printf '%s\\n' "$3" | wg setconf "$2" /dev/stdin
ip address add "$4" dev "$2"
ip link set dev "$2" mtu 1340 up
echo ready
wait
"""


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    tools = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}
    lacks = lacking_tools(tools) + web.missing(kind)
    if not Path("/dev/net/tun").exists():
        lacks.append("/dev/net/tun is missing: modprobe tun (Docker: --device /dev/net/tun)")
    return lacks


def start(stage: Stage, kind: str) -> Act:
    """Bring both ends of the tunnel up and serve pages inside it."""
    del kind
    run = stage.line.network.run
    client_key, server_key = wg("genkey").strip(), wg("genkey").strip()
    dials = f"Endpoint = {ADDRESS}:{PORT}\nPersistentKeepalive = 5"
    client, server = f"wg{run}c", f"wg{run}s"
    client_run, server_run = (stage.folder(f"{name}.run") for name in (client, server))
    config = configuration(client_key, server_key, more=dials)
    bring_up(stage.client, client_run, client, f"{CLIENT_INSIDE}/24", config)
    listens = f"ListenPort = {PORT}"
    config = configuration(server_key, client_key, listens)
    bring_up(stage.server, server_run, server, f"{SERVER_INSIDE}/24", config)
    pages = web.visits(stage, SERVER_INSIDE, "web-http2")
    speaks = "wireguard-go, a WireGuard tunnel"
    return Act((Service("udp", ADDRESS, PORT, speaks),), pages.act)


def configuration(own: str, other: str, port: str = "", more: str = "") -> str:
    """Return the configuration of an end (wg(8)): its key, its peer's key and address."""
    peer = f"PublicKey = {wg('pubkey', input_text=other).strip()}\nAllowedIPs = {INSIDE}\n{more}"
    return f"[Interface]\nPrivateKey = {own}\n{port}\n[Peer]\n{peer}"


def bring_up(
    begin: Callable[[list[str], str], Program], folder: Path, name: str, inner: str, config: str
) -> None:
    """Start one end and wait until its interface is up; raises TestbedError."""
    program = begin(["sh", "-ec", END, "sh", str(folder), name, config, inner], name)
    program.wait_for(lambda: "ready\n" in program.written(), 15, "an interface that is up")


def wg(*words: str, input_text: str = "") -> str:
    """Run `wg` on an input; returns its output. Raises TestbedError with its error message."""
    done = subprocess.run(
        ["wg", *words], input=input_text, capture_output=True, text=True, check=False, timeout=10
    )
    if done.returncode:
        raise TestbedError(f"wg {words[0]}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout
