# SPDX-License-Identifier: BSD-3-Clause
"""The product's verdicts are those that the two packet files of a replay give to somebody else.

tests/testbed/second_judge.py reads nothing but `midcall replay -o` of the policy and of no policy,
and shares no code with the product. Every cell here is one capture under one policy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.fetch.locate import locate
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.paths import committed, recorded, samples
from midcall.errors import CaptureError
from midcall.experiments.tools.replay import Order, play, write
from tests.conftest import corpus_folder, of_each_group
from tests.testbed import second_judge

POLICIES = (
    "maroc-telecom/signature", "maroc-telecom/stun", "mechanisms/late-stall", "mechanisms/loss",
    "mechanisms/police", "mechanisms/upstream", "mechanisms/downstream", "mechanisms/after-seconds",
    "mechanisms/delay", "mechanisms/media-only",
)  # fmt: skip
CORPUS = corpus_folder()


def with_calls() -> list[str]:
    """Return captures that are here and hold calls, of each group of captures."""
    homes = (samples(), recorded(), *((committed(),) if CORPUS else ()))
    known = [one for home in homes for one in load(home.catalogue).captures]
    return [one.name for one in of_each_group(one for one in known if calls(one.sha256))]


@pytest.fixture(scope="module")
def cells() -> Any:
    """Count the cells that both judges gave, and print them at the end."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"second judge: {counted.total()} verdicts compared: {dict(counted)}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.longest] * (place % 2))  # CI judges every second one
    for place, name in enumerate(with_calls())
])  # fmt: skip
def test_the_packets_alone_give_the_same_verdict(name: str, tmp_path: Path, cells: Any) -> None:
    try:
        locate(name, CORPUS)
    except CaptureError as missing:
        pytest.skip(str(missing))
    control = tmp_path / "none.pcapng"
    write(play(Order(name, "none", corpus=CORPUS)), control, None)
    for policy in POLICIES:
        played, trace = play(Order(name, policy, corpus=CORPUS)), tmp_path / "trace.pcapng"
        write(played, trace, None)
        for call in played.calls:
            verdict = played.verdicts[call.id]
            if verdict.verdict == "INCONCLUSIVE":
                continue
            table = call.model_dump(by_alias=True, exclude_none=True)
            other = second_judge.judge(trace, control, table)
            case = second_judge.case_of(second_judge.read(trace), second_judge.read(control), table)
            came = sum(case.now.came[number] >= 0 for number in case.media)
            assert (other.verdict, other.blocked, other.usable, came) == (
                verdict.verdict, verdict.blocked, verdict.usable, verdict.media_delivered
            ), f"{name} {call.id} {policy}: {verdict.reason} {other.reason}"  # fmt: skip
            cells[verdict.verdict] += 1
