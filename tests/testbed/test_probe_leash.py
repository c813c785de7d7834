# SPDX-License-Identifier: BSD-3-Clause
"""Caller and helper apart: addresses, key, budget, and real sockets in a namespace of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from midcall.errors import TestbedError
from midcall.testbed.probing.control import Control, greet, welcome
from midcall.testbed.probing.leash import HELLO, Budget, allowed, confirmed, endpoint, read_key

KEY = b"sixteen octets or more"


@pytest.mark.parametrize("address", ["198.18.0.1", "198.19.255.254", "fd00::1"])
def test_addresses_of_the_lab_are_allowed(address: str) -> None:
    assert allowed(address) == address


@pytest.mark.parametrize("address", ["8.8.8.8", "198.20.0.1", "192.168.1.1", "fe80::1", "::1",
                                     "2001:db8::1", "host.example"])  # fmt: skip
def test_every_other_address_is_refused(address: str) -> None:
    with pytest.raises(TestbedError):
        allowed(address)


def test_a_helper_is_named_by_address_and_port() -> None:
    assert endpoint("198.18.0.2") == ("198.18.0.2", 7331)
    assert endpoint("198.18.0.2:99") == ("198.18.0.2", 99)
    assert endpoint("[fd00::2]:99") == ("fd00::2", 99)
    for words in ("198.18.0.2:x", "198.18.0.2:70000", "9.9.9.9:53"):
        with pytest.raises(TestbedError):
            endpoint(words)


def test_a_key_must_be_long_and_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(TestbedError, match="16 at least"):
        read_key(path)
    path.write_bytes(KEY)
    assert read_key(path) == KEY
    path.chmod(0o644)
    with pytest.raises(TestbedError, match="chmod 600"):
        read_key(path)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


def shaken(
    pair: Pair, mine: bytes, theirs: bytes
) -> tuple[Control | None, Control | None, list[str]]:
    one, other = pair
    made: list[Control | None] = [None, None]
    said: list[str] = []

    def far() -> None:
        try:
            made[1] = welcome(other, theirs)
        except TestbedError as error:
            said.append(str(error))
            other.close()

    thread = threading.Thread(target=far)
    thread.start()
    try:
        made[0] = greet(one, mine)
    except (TestbedError, OSError) as error:
        said.append(str(error))
        one.close()
    thread.join(10)
    return made[0], made[1], said


def test_both_sides_prove_the_key(pair: Pair) -> None:
    near, far, said = shaken(pair, KEY, KEY)
    assert not said
    assert near is not None
    assert far is not None
    near.tell({"do": "close"})
    assert far.hear() == {"do": "close"}


def test_nothing_follows_a_wrong_key(pair: Pair) -> None:
    near, far, said = shaken(pair, KEY, KEY + b"!")
    assert near is None
    assert far is None
    assert len(said) == 2


def test_the_helpers_first_answer_is_not_longer_than_the_question(pair: Pair) -> None:
    one, other = pair

    def far() -> None:
        with pytest.raises(TestbedError):
            welcome(other, KEY)

    thread = threading.Thread(target=far)
    thread.start()
    one.sendall(b"MCP1" + bytes(HELLO - 4))
    answer = one.recv(10_000)
    one.close()
    thread.join(10)
    assert len(answer) == HELLO


def test_a_changed_message_is_refused(pair: Pair) -> None:
    near, far, _ = shaken(pair, KEY, KEY)
    assert near is not None
    assert far is not None
    near.session = bytes(32)
    near.tell({"do": "close"})
    with pytest.raises(TestbedError, match="not by the other side"):
        far.hear()


def test_a_budget_ends_and_must_be_confirmed() -> None:
    budget = Budget.of("3,1000,60")
    for _ in range(3):
        budget.spend(100)
    with pytest.raises(TestbedError, match="budget is spent"):
        budget.spend(100)
    with pytest.raises(TestbedError, match="budget is spent"):
        Budget.of("100,1000,60").spend(2_000)
    for words in ("3", "a,b,c", "0,1,1"):
        with pytest.raises(TestbedError):
            Budget.of(words)
    said: list[str] = []
    assert not confirmed(budget, False, said.append, lambda _: False)
    assert "at most 3 packets" in said[0]


SCRIPT = """
import subprocess, threading
for words in ("link set lo up", "route add local 198.18.0.0/15 dev lo"):
    subprocess.run(["ip", *words.split()], check=True)
from midcall.captures.packets.numbers import TCP, UDP
from midcall.testbed.probing import helper
from midcall.testbed.probing.leash import Budget
from midcall.testbed.probing.probe import Ends, Sent
from midcall.testbed.probing.real_sockets import RemoteSockets
from midcall.testbed.probing.sockets import play
key, budget = b"sixteen octets or more", Budget(1000, 10**6, 60)
ready = threading.Event()
threading.Thread(
    target=helper.serve,
    args=("198.18.0.2", 7331, key, budget, lambda _: ready.set(), 1), daemon=True,
).start()
assert ready.wait(10)
near, far = bytes([198, 18, 1, 1]), bytes([198, 19, 1, 1])
udp, tcp = Ends(UDP, near, 40000, far, 50000), Ends(TCP, near, 40001, far, 443)
plan = tuple(
    Sent(n * 10_000_000, n % 2 == 0, ends, bytes([n, ends.proto]) * 40)
    for n in range(12) for ends in (udp, tcp)
)
with RemoteSockets("198.18.0.2", 7331, key, Budget(1000, 10**6, 60)) as sockets:
    for _ in range(2):
        played = play(sockets, plan, 2_000_000_000)
        print(sum(time >= 0 for time in played.arrived), len(plan), len(played.strange))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_ordinary_sockets_carry_a_plan_in_a_namespace() -> None:
    made = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no namespace can be made here")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", SCRIPT], capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["24 24 0", "24 24 0"], done.stderr
