# SPDX-License-Identifier: BSD-3-Clause
"""A live run from spec to report: verdicts as in virtual time, fates proven, calls blocked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.spec.options import Options

pytestmark = pytest.mark.live


def test_a_live_run_says_of_each_call_what_virtual_time_says(tmp_path: Path) -> None:
    text = (runner.specs.SHIPPED / "live-smoke.toml").read_text()
    text = text.replace('["media-only", "signature"]', '["media-only"]')
    spec = tmp_path / "live-smoke.toml"
    spec.write_text(text.replace("seconds = 8", "seconds = 3"))
    done = runner.run(str(spec), Options(runs=tmp_path / "runs", stream=io.StringIO()))
    assert done.failed == 0
    live = done.summary["live"]
    assert live["parity"]["cells"] == 2
    assert live["parity"]["calls_agree"] >= 0.9 * live["parity"]["calls"]
    assert live["fates"]["proven"] >= 0.99 * live["fates"]["packets"]
    rows = schema.read_table(done.folder, "calls")
    assert {row["date"] for row in rows if row["blocked"]} == {"2016-01-20"}
