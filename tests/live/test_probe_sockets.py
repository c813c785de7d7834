# SPDX-License-Identifier: BSD-3-Clause
"""Caller and helper of `midcall probe` use nothing but sockets, as strace sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: System calls that would show more of the line than a socket does.
WATCHED = "socket,socketpair,bpf,setns,unshare,ptrace,process_vm_readv,perf_event_open"
PLAN = """
import sys
from midcall.captures.packets.numbers import TCP, UDP
from midcall.testbed.probing.leash import Budget
from midcall.testbed.probing.probe import Ends, Sent
from midcall.testbed.probing.real_sockets import RemoteSockets
from midcall.testbed.probing.sockets import play
near, far = bytes([198, 18, 1, 1]), bytes([198, 19, 1, 1])
flows = Ends(UDP, near, 40000, far, 50000), Ends(TCP, near, 40001, far, 443)
plan = tuple(Sent(n * 10_000_000, n % 2 == 0, ends, bytes([n, ends.proto]) * 40)
             for n in range(12) for ends in flows)
with RemoteSockets("198.18.0.2", 7331, KEY, Budget(1000, 10**6, 60)) as sockets:
    print(sum(time >= 0 for time in play(sockets, plan, 2_000_000_000).arrived))
"""
SERVE = """
from midcall.testbed.probing import helper
from midcall.testbed.probing.leash import Budget
helper.serve("198.18.0.2", 7331, KEY, Budget(1000, 10**6, 60),
             lambda words: print(words, flush=True), 1)
"""
KEY = 'KEY = b"sixteen octets or more"\n'


def traced(script: str, log: Path) -> list[str]:
    """Return the command that runs a script under strace, with its calls in a file."""
    return ["strace", "-f", "-qq", "-e", f"trace={WATCHED}", "-o", str(log), sys.executable,
            "-c", KEY + script]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_caller_and_helper_use_ordinary_sockets_alone(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace can be made here")
    inner = f"""
import subprocess
for words in ("link set lo up", "route add local 198.18.0.0/15 dev lo"):
    subprocess.run(["ip", *words.split()], check=True)
far = subprocess.Popen({traced(SERVE, tmp_path / "helper")!r}, stdout=subprocess.PIPE, text=True)
far.stdout.readline()
near = subprocess.run({traced(PLAN, tmp_path / "caller")!r}, capture_output=True, text=True,
                      timeout=60)
print(near.stdout, near.stderr)
far.wait(20)
"""
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", inner], capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout.split()[:1] == ["24"], done.stderr + done.stdout
    for end in ("caller", "helper"):
        calls = re.findall(r"^\d+ +(\w+)\((.*)", (tmp_path / end).read_text(), re.MULTILINE)
        assert any("AF_INET, SOCK_STREAM" in words for _, words in calls)
        assert any("AF_INET, SOCK_DGRAM" in words for _, words in calls)
        for name, words in calls:
            assert name in ("socket", "socketpair"), f"{end}: {name}({words}"
            assert re.match(r"AF_(INET6?|UNIX), SOCK_(STREAM|DGRAM)", words), f"{end}: {words}"


EARLY = """
import time
from midcall.captures.packets.numbers import UDP
from midcall.testbed.probing.leash import Budget
from midcall.testbed.probing.probe import Ends
from midcall.testbed.probing.real_sockets import WAITING, LocalEnd
ends = Ends(UDP, bytes([198, 18, 1, 1]), 40000, bytes([198, 19, 1, 1]), 50000)
far, near = (LocalEnd(is_near, Budget(1000, 10**6, 60)) for is_near in (False, True))
far.open(ends)
near.open(ends)
for number in range(WAITING + 5):
    far.send(ends, bytes([number]))
near.look(0.05)
before = len(near.take())
began = time.time_ns()
near.send(ends, b"first")
ended = time.time_ns()
time.sleep(0.1)  # a busy program looks late
for _ in range(WAITING + 9):
    far.look(0.01)
    near.look(0.01)
came = near.take()
(heard,) = far.take()
print(before, len(came), WAITING, began - 10**6 <= heard.time <= ended + 50 * 10**6)
"""


MARKED = """
from midcall.captures.packets.numbers import TCP, UDP
from midcall.testbed.probing.leash import Budget
from midcall.testbed.probing.probe import Ends, Sent
from midcall.testbed.probing.real_sockets import RemoteSockets
from midcall.testbed.probing.sockets import play
pairs = ((bytes([198, 18, 1, 1]), bytes([198, 19, 1, 1])),
         tuple(bytes.fromhex(f"fd4d194{n}" + "00" * 11 + "01") for n in (4, 5)))
flows = [Ends(proto, near, 40000, far, 50000) for near, far in pairs for proto in (UDP, TCP)]
plan = tuple(Sent(n * 10_000_000, n % 2 == 0, ends, bytes([n, ends.proto]) * 40, dscp=n % 3 * 23)
             for n in range(12) for ends in flows)
with RemoteSockets("198.18.0.2", 7331, KEY, Budget(1000, 10**6, 60)) as sockets:
    played = play(sockets, plan, 2_000_000_000)
print(sum(time >= 0 for time in played.arrived), sum(one.ends.proto == UDP for one in plan))
print(sum(plan[at].dscp == dscp for at, dscp in played.points.items()), len(played.points))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_a_datagram_arrives_with_its_code_point() -> None:
    inner = f"""
import subprocess, sys
for words in ("link set lo up", "route add local 198.18.0.0/15 dev lo",
              "-6 addr add fd4d:1944::1/128 dev lo nodad",
              "-6 addr add fd4d:1945::1/128 dev lo nodad"):
    subprocess.run(["ip", *words.split()], check=True)
far = subprocess.Popen([sys.executable, "-c", {KEY + SERVE!r}], stdout=subprocess.PIPE, text=True)
far.stdout.readline()
exec({KEY + MARKED!r})
far.wait(20)
"""
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", inner], capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip("no namespace can be made here")
    assert done.stdout.split() == ["48", "24", "24", "24"], done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_the_helper_keeps_what_is_due_before_it_was_heard_and_datagrams_have_the_kernels_time() -> (
    None
):
    inner = f"""
import subprocess
for words in ("link set lo up", "route add local 198.18.0.0/15 dev lo"):
    subprocess.run(["ip", *words.split()], check=True)
exec({EARLY!r})
"""
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", inner], capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip("no namespace can be made here")
    before, came, most, stamped = done.stdout.split()
    assert (before, came, stamped) == ("0", most, "True"), done.stdout + done.stderr
