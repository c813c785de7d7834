# SPDX-License-Identifier: BSD-3-Clause
"""The bench measures what it says on a tiny file; no figure is asserted but that there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "captures" / "samples" / "sample-viber-audio.pcap"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the bench."""
    command = [sys.executable, "-m", "tests.bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def measured(done: subprocess.CompletedProcess[str], path: Path) -> dict[str, Any]:
    """Return the figures of a bench that went well."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_given_file_is_measured_with_every_tool_that_is_here(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = bench(SAMPLE, "--repeats", 2, "--json", out)
    (row,) = measured(done, out)["files"]
    assert (row["file"], row["packets"], row["flows"]) == (SAMPLE.name, 452, 7)
    tools = {"midcall", "read"} | ({"ndpireader"} if shutil.which("ndpiReader") else set())
    assert row["tools"].keys() == tools
    ours = row["tools"]["midcall"]
    assert ours["packets"] == 452
    assert ours["packets_per_s"] > 0
    assert ours["peak_memory_bytes"] > 1_000_000
    assert ours["state_bytes_per_flow"] > 128
    assert row["ratios"]["read"] > 0
    assert (row["ratios"]["ndpireader"] is None) == ("ndpireader" not in tools)
    assert SAMPLE.name in done.stdout


def test_the_mix_of_samples_is_flagged_and_its_rounds_have_flows_of_their_own(
    tmp_path: Path,
) -> None:
    flows = {}
    for packets in (7000, 14000):
        out = tmp_path / f"{packets}.json"
        done = bench("--samples", "--packets", packets, "--repeats", 1, "--no-peers", "--json", out)
        (row,) = measured(done, out)["files"]
        assert row["synthetic"] is True
        assert row["packets"] == packets
        flows[packets] = row["flows"]
        assert "SYNTHETIC" in done.stdout
    assert flows[14000] > 1.8 * flows[7000]


def test_a_capture_without_packets_is_refused_in_one_sentence(tmp_path: Path) -> None:
    from captures.pcap import packets_of, write_pcap

    empty = tmp_path / "none.pcap"
    write_pcap(empty, packets_of([], []))
    done = bench(empty, "--no-peers", "--json", tmp_path / "x.json")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("holds no packets, there is nothing to measure")
    assert not (tmp_path / "x.json").exists()
