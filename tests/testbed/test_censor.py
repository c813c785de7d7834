# SPDX-License-Identifier: BSD-3-Clause
"""Censors in Python: what they see, what their answers do, and how their mistakes are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.locations import ROOT
from midcall.testbed.conformance.lint import check
from midcall.testbed.middlebox.censor import build
from midcall.testbed.middlebox.censor import load as load_censor
from midcall.testbed.policy.loader import load

HEAD = "def censor(packet, flow):\n"

# body -> fates of: STUN request and answer, RTP, two of another flow
ANSWERS = [
    ("return PASS", "ddddd"),
    ("return DROP if packet.stun >= 0 else PASS", "x.ddd"),
    ("return DROP if not packet.up else PASS", "dxddx"),
    ("return DROP_FLOW if packet.stun == 1 else PASS", "x.xdd"),
    ("return PASS_FLOW if flow.port == 9999 else DROP", "x.xdd"),
    ("return DROP if len(packet.payload) > 3 and packet.payload[0] == 0x80 else PASS", "ddxdd"),
    ("return DROP if packet.size == 3 and flow.packets == 2 else PASS", "ddddx"),
    # The answer that was dropped comes again with its request, and is then another packet's.
    ("return DROP if flow.packets_up == 1 and flow.packets_down == 1 else PASS", "ddddx"),
    ("return DROP if packet.seconds > 0.05 else PASS", "ddxdx"),
    ("return DROP if flow.protocol == 17 and flow.bytes > 150 else PASS", "ddxdd"),
    ("return DROP if flow.app == RTC or flow.verdict == CERTAIN else PASS", "x.xdd"),
]


#: Bodies that keep numbers, as ANSWERS.
KEPT = [
    ("flow.memory[0] += 1\nreturn DROP if flow.memory[0] == 2 else PASS", "ddddx"),
    ("flow.memory[3] += packet.size\nreturn DROP if flow.memory[3] > 60 else PASS", "ddxdd"),
    ("flow.memory[1] -= 1\nreturn PASS if flow.memory[0] == 0 else DROP", "ddddd"),
]


@pytest.fixture
def censor(tmp_path: Path) -> Callable[[str], Any]:
    """Return a maker of rules that ask a censor of the given body."""

    def made(body: str, whole: bool = False) -> dict[str, Any]:
        path = tmp_path / "box.py"
        text = body if whole else HEAD + "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(text, encoding="utf-8")
        return {"match": {}, "act": "censor", "file": str(path)}

    return made


def talk(make: Any) -> Any:
    scene = make.Scene()
    scene.udp(0.00, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.04, "<", make.RELAY, 3478, make.stun(0x101, 7))
    scene.udp(0.10, ">", make.RELAY, 3478, make.rtp(1, 5))
    scene.udp(0.20, ">", make.PEER, 9999, b"one")
    scene.udp(0.30, "<", make.PEER, 9999, b"two")
    return scene


@pytest.mark.parametrize(("body", "expected"), ANSWERS + KEPT)
def test_a_censor_sees_the_packet_and_its_flow_and_its_answer_is_done(
    make: Any, run: Any, policy: Any, fates: Any, censor: Any, body: str, expected: str
) -> None:
    assert fates(run(talk(make), policy(censor(body)))) == expected


def test_what_a_censor_passes_meets_the_rules_behind_it_and_its_match_says_whom_it_sees(
    make: Any, run: Any, policy: Any, fates: Any, censor: Any
) -> None:
    behind = {"match": {"ports": [9999]}, "act": "drop"}
    asked = censor("return DROP") | {"match": {"stun": True}}
    assert fates(run(talk(make), policy(asked, behind))) == "x.dx."


def test_a_reset_of_a_censor_kills_the_connection(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, censor: Any
) -> None:
    scene.hello(0.0, make.PEER, 443)
    scene.tcp(0.05, ">", make.PEER, 443, make.client_hello("a.example"))
    scene.tcp(0.10, ">", make.PEER, 443, b"more")
    rule = censor("return RESET if packet.size > 0 and packet.flags & 8 else PASS")
    simulation = run(scene, policy(rule))
    assert fates(simulation) == "dddx."
    assert len(simulation.letters) == 2


# file -> the sentence that tells it, from the file's name on
MISTAKES = [
    ("x = 1\n", ": no `def censor(packet, flow):` is in it"),
    ("def censor(packet):\n    return PASS\n",
     ":1: censor takes a packet and a flow, not 1 values"),
    ("def censor(packet, flow):\n    return PAS S\n", ":2: not Python: invalid syntax"),
    (HEAD + "    return DROP if flow.port_ == 1 else PASS\n",
     ":2: flow has no port_; did you mean port?"),
    (HEAD + "    flow.app = 3\n    return PASS\n",
     ":2: flow.app cannot be changed; a censor only looks"),
    (HEAD + "    if flow.port == 1:\n        return DROP\n",
     ":3: the function can end without a return; say PASS where it lets go on"),
    (HEAD + "    return\n",
     ":2: returns nothing; expected one of PASS, DROP, RESET, DROP_FLOW, PASS_FLOW"),
    ("import nothing_such\n\n" + HEAD + "    return PASS\n",
     ":1: ModuleNotFoundError: No module named 'nothing_such'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_a_mistake_in_a_censor_is_told_with_file_and_line(
    censor: Any, text: str, problem: str
) -> None:
    path = censor(text, whole=True)["file"]
    with pytest.raises(TestbedError) as error:
        load_censor(path)
    assert str(error.value) == path + problem


# body -> message on the packet on which it fails
FAILURES = [
    ("return DROP if packet.payload[500] == 1 else PASS", "box.py:2: IndexError"),
    ("return DROP if packet.size // (flow.packets - 1) > 3 else PASS", "box.py:2: ZeroDivision"),
    ("return flow.packets + 7", "box.py: returned 8, expected one of PASS, DROP, RESET"),
]


@pytest.mark.parametrize(("body", "problem"), FAILURES)
def test_a_censor_that_fails_on_a_packet_ends_the_run_and_lets_nothing_pass(
    make: Any, run: Any, policy: Any, censor: Any, body: str, problem: str
) -> None:
    with pytest.raises(TestbedError) as error:
        run(talk(make), policy(censor(body)))
    assert problem in str(error.value)
    assert str(error.value).endswith("(rule r0, packet 1)")


OPERATOR = """
id = "op"
title = "Op"
country = "MA"

[[period]]
access = ["4g"]
from = 2026-01-01
to = 2026-02-01
grade = "C"
source = "s"

[[hypothesis]]
id = "h"
title = "H"
description = "d"

[[hypothesis.rule]]
name = "mine"
match = {}
act = "censor"
file = "box.py"
grade = "C"
source = "s"
"""


def test_a_censor_stands_beside_its_operators_file_and_a_change_of_it_is_another_policy(
    write: Callable[[str, str], Path],
) -> None:
    import datetime

    path = write("op.toml", OPERATOR)
    write("box.py", HEAD + "    return DROP\n")
    day = datetime.date(2026, 1, 5)
    one = load(path).policy("h", "4g", day)
    assert one.rules[0].file == str(path.parent / "box.py")
    write("box.py", HEAD + "    return PASS\n")
    assert repr(one) != repr(load(path).policy("h", "4g", day))
    assert check(path) == []
    write("box.py", HEAD + "    return flow.nothing\n")
    (line,) = check(path)
    assert "rule mine: " in line
    assert "box.py:2: flow has no nothing; known: app, role" in line
    (path.parent / "box.py").unlink()
    assert "a censor cannot be read from it" in check(path)[0]


def test_the_censors_of_the_reference_page_compile() -> None:
    page = (ROOT / "docs" / "reference" / "censors.md").read_text(encoding="utf-8")
    texts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(texts) == 2
    for number, text in enumerate(texts):
        assert build(f"censor-{number}", text).remembers is ("flow.memory" in text)


def test_a_kept_number_is_of_one_flow_and_of_one_run(
    make: Any, run: Any, policy: Any, fates: Any, censor: Any
) -> None:
    body = "flow.memory[2] += 1\nreturn DROP if flow.memory[2] > 1 else PASS"
    scene = make.Scene()
    for turn in range(3):
        scene.udp(turn, ">", make.PEER, 9999, b"one")
        scene.udp(turn + 0.5, ">", make.PEER, 9998, b"two")
    for _ in range(2):
        assert fates(run(scene, policy(censor(body)))) == "ddxxxx"
