# SPDX-License-Identifier: BSD-3-Clause
"""Other people's boxes stand between the ports, are bounded, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.devices import blackbox
from midcall.testbed.live.devices.blackbox import Blackbox, missing
from midcall.testbed.live.network.network import Network

#: An inline program of twelve lines, as somebody might write one: it forwards all but a word.
INLINE = """
import os, select, socket
ports = []
for name in (os.environ["MIDCALL_CALLER_PORT"], os.environ["MIDCALL_SERVER_PORT"]):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.setsockopt(263, 23, 1)
    port.bind((name, 3))
    ports.append(port)
while True:
    for here in select.select(ports, [], [])[0]:
        frame = here.recv(4096)
        if b"forbidden" not in frame:
            ports[1 - ports.index(here)].send(frame)
"""


@pytest.fixture
def inline(tmp_path: Path) -> str:
    """Return the middlebox that is an inline program of twelve lines."""
    path = tmp_path / "inline.py"
    path.write_text(INLINE)
    return f"command: {sys.executable} {path}"


def links(network: Network) -> str:
    """Return what links stand in the box's namespace."""
    with inside(network.box_pid):
        done = subprocess.run(
            ["ip", "-o", "link"], capture_output=True, text=True, check=True, timeout=10
        )
    return done.stdout


def running(word: bytes) -> list[Path]:
    """Return the processes of this machine that have a word in their command."""
    paths = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_bytes().split(b"\0"):
                paths.append(path)
        except OSError:
            continue
    return paths


@pytest.mark.live
@pytest.mark.parametrize("kind", ["suricata", "nfqueue"])
def test_a_known_box_forwards_both_ways_and_leaves_nothing(
    network: Network, taps: Any, make: Any, kind: str
) -> None:
    if lacks := missing(kind):
        pytest.skip("; ".join(lacks))
    caller, server = taps
    with Blackbox(network, kind) as box:
        frame = make.datagram(b"through a black box")
        caller.send(frame)
        server.send(frame)
        assert frame in server.frames(50, 1.0)
        assert frame in caller.frames(50, 1.0)
        process = box.process
        assert process is not None
    assert process.poll() is not None
    assert "mcbridge" not in links(network)
    caller.send(frame)
    assert frame not in server.frames(50, 0.2)


@pytest.mark.live
def test_packets_of_a_queue_wait_for_the_process(network: Network, taps: Any, make: Any) -> None:
    if lacks := missing("nfqueue"):
        pytest.skip("; ".join(lacks))
    with Blackbox(network, "nfqueue") as box:
        box.end()
        taps[0].send(make.datagram(b"nobody reads"))
        assert all(b"nobody reads" not in frame for frame in taps[1].frames(50, 0.2))


@pytest.mark.live
def test_any_inline_program_can_be_studied(
    network: Network, taps: Any, make: Any, inline: str
) -> None:
    caller, server = taps
    with Blackbox(network, inline):
        for word in (b"forbidden", b"allowed"):
            caller.send(make.datagram(word))
        arrived = b"".join(server.frames(50, 0.5))
    assert b"allowed" in arrived
    assert b"forbidden" not in arrived


@pytest.mark.live
def test_a_program_is_told_its_ports_in_its_words(network: Network) -> None:
    with pytest.raises(TestbedError, match="ended at once") as caught:
        Blackbox(network, "command: echo {caller_port} to {server_port}").start()
    assert f"{network.ports.b0} to {network.ports.b1}" in str(caught.value)


@pytest.mark.live
def test_a_program_that_forwards_nothing_is_told_and_ended(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blackbox, "READY_SECONDS", 0.5)
    box = Blackbox(network, "command: sh -c 'sleep 60.25 & sleep 60.25'")
    with pytest.raises(TestbedError, match="middlebox command forwards nothing; it said:"):
        box.start()
    assert not box.alive
    assert not running(b"60.25")


@pytest.mark.live
def test_a_program_runs_no_longer_than_its_limit(network: Network, inline: str) -> None:
    with Blackbox(network, inline, limit_s=1.0) as box:
        until = time.monotonic() + 20
        while box.alive and time.monotonic() < until:
            time.sleep(0.05)
        assert not box.alive


@pytest.mark.live
def test_a_program_that_is_not_there_is_told(network: Network) -> None:
    with pytest.raises(TestbedError, match="no-such-program"):
        Blackbox(network, "command: no-such-program").start()


@pytest.mark.parametrize("word", ["snort", "command:", "suricata: rules", ""])
def test_what_is_no_middlebox_is_told(word: str) -> None:
    with pytest.raises(TestbedError, match='expected "suricata", "nfqueue" or "command:'):
        blackbox.kind_of(word)


def test_what_a_middlebox_lacks_is_a_sentence_with_the_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing("suricata")[0] == "suricata is missing: apt-get install suricata"
    assert missing("nfqueue")[1] == "ip is missing: apt-get install iproute2"
