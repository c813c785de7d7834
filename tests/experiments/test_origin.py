# SPDX-License-Identifier: BSD-3-Clause
"""A run keeps the policies that it used, and is another run where one of them differs (U1)."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from midcall.experiments.measure.compare import other_inputs
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.manifest import origin, policy_files

POLICY = """
id = "mine"
title = "Mine"
country = "XX"
include = ["shared/sets.toml"]
[[period]]
from = 2016-01-05
access = ["4g"]
grade = "D"
source = "a test"
[[hypothesis]]
id = "slow"
title = "Slow"
description = "Slow."
[[hypothesis.rule]]
name = "slow"
match = { protocol = "udp" }
act = "police"
rate_kbit = RATE
bucket_bytes = 1500
grade = "D"
source = "a test"
[[hypothesis]]
id = "asked"
title = "Asked"
description = "Asks a function."
[[hypothesis.rule]]
name = "asked"
match = {}
act = "censor"
file = "box.py"
grade = "D"
source = "a test"
"""
CENSOR = (
    "from midcall.testbed.middlebox.censor import PASS\n\n\n"
    "def censor(packet, flow):\n    return PASS\n"
)


def given(folder: Path, rate: int, censor: str = CENSOR) -> specs.Spec:
    (folder / "shared").mkdir(parents=True, exist_ok=True)
    (folder / "shared" / "sets.toml").write_text("")
    (folder / "box.py").write_text(censor)
    (folder / "mine.toml").write_text(POLICY.replace("RATE", str(rate)))
    spec, _ = specs.load("smoke")
    return spec.model_copy(update={"operators": [str(folder / "mine.toml"), "inwi"]})


def test_every_file_of_a_policy_is_kept_as_it_stands(tmp_path: Path) -> None:
    found = policy_files(given(tmp_path, 500))
    own = [name for name in found if name.startswith("mine/")]
    assert own == ["mine/mine.toml", "mine/shared/sets.toml", "mine/box.py"]
    assert "inwi/shared/morocco-2016.toml" in found
    assert found["mine/mine.toml"] == (tmp_path / "mine.toml").read_bytes()


@pytest.mark.parametrize(("rate", "censor"), [(1, CENSOR), (500, CENSOR + "# other\n")])
def test_runs_of_other_policies_have_other_inputs(tmp_path: Path, rate: int, censor: str) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    result = []
    for n, words in enumerate(((500, CENSOR), (rate, censor))):
        spec = given(tmp_path / str(n), *words)
        result.append(origin(spec, b"", Corpus([], []), policy_files(spec), now))
    assert result[0]["inputs"] != result[1]["inputs"]
    (line,) = other_inputs(*result)
    assert line.startswith("policies differ: mine/")
    assert list(other_inputs(result[0], result[0])) == []
