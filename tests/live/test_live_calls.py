# SPDX-License-Identifier: BSD-3-Clause
"""Live calls from spec to report: a browser finds another way, replay does not know of it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from midcall.experiments.livecalls import arm
from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.spec.options import Options
from midcall.testbed.programs.calls.sockets import descendants

pytestmark = pytest.mark.live


@pytest.mark.longest
def test_a_browser_escapes_by_a_relay_and_nothing_is_left_running(tmp_path: Path) -> None:
    text = (runner.specs.SHIPPED / "live-calls-smoke.toml").read_text()
    text = text.replace('["stun", "media-only", "loss-up"]', '["stun"]')
    spec = tmp_path / "live-calls-smoke.toml"
    spec.write_text(text.replace("seconds = 5", "seconds = 3"))
    asked = runner.specs.load(str(spec))[0].programs
    assert asked is not None
    if lacks := arm.lacking(asked):
        pytest.skip("; ".join(lacks))
    done = runner.run(str(spec), Options(runs=tmp_path / "runs", stream=io.StringIO()))
    programs = done.summary["programs"]
    rows = {
        row["plan"]: row
        for row in schema.read_table(done.folder, "program_calls")
        if row["hypothesis"] == "stun"
    }
    assert rows["chromium-audio-any"]["verdict"] == "FALLBACK"
    assert rows["chromium-audio-any"]["carried"] in ("tcp", "tls")
    assert rows["chromium-audio-any"]["replay"] == "SETUP_BLOCKED"
    assert rows["baresip-rtp-direct"]["rule"] is None
    assert programs["agreement"]["n"] == 2
    assert programs["null"]["calls"] == 2
    assert programs["failed"] == []
    assert 'id="programs"' in done.report.read_text()
    running = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(os.getpid())}
    assert not running & {"chromium", "baresip", "turnserver", "node"}
