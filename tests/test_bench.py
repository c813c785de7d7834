# SPDX-License-Identifier: BSD-3-Clause
"""The bench measures what it says on a tiny file; no figure is asserted but that there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

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
    tools = {"midcall", "command", "read"}
    tools |= {"two_cores", "two_passes"} if (os.cpu_count() or 1) > 1 else set()
    tools |= {"ndpireader"} if shutil.which("ndpiReader") else set()
    tools |= {"nfstream"} if importlib.util.find_spec("nfstream") else set()
    result = row["tools"].keys() | set(row["not_told_from_start_up"])  # 452 packets are few
    assert result == tools
    ours = row["tools"]["midcall"]
    assert ours["packets"] == 452
    assert ours["packets_per_s"] > 0
    assert ours["peak_memory_bytes"] > 1_000_000
    assert ours["state_bytes_per_flow"] > 128
    both = row["tools"].get("two_passes")
    if both:
        assert both["packets"] == 2 * 452
        assert both["peak_memory_bytes"] > ours["peak_memory_bytes"]
    assert row["ratios"]["read"] > 0
    assert row["ratios"].keys() == row["tools"].keys() - {"midcall"}
    assert SAMPLE.name in done.stdout


@pytest.mark.longest
def test_start_up_is_told_warm_and_for_the_first_time(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = bench(SAMPLE, "--repeats", 1, "--peers", "", "--start-up", "--json", out)
    assert done.returncode == 0, done.stderr
    begun = json.loads(out.read_text())["start_up"]
    assert 0 < begun["warm_seconds"] < begun["first_seconds"]
    assert f"the first time {begun['first_seconds']} s" in done.stdout


@pytest.mark.slow
def test_the_mix_of_samples_is_flagged_and_its_rounds_have_flows_of_their_own(
    tmp_path: Path,
) -> None:
    flows = {}
    for packets in (7000, 14000):
        out = tmp_path / f"{packets}.json"
        words = ("--samples", "--loads", "whole", "--packets", packets, "--repeats", 1)
        done = bench(*words, "--peers", "", "--json", out)
        (row,) = measured(done, out)["files"]
        assert row["synthetic"] is True
        assert row["packets"] == packets
        flows[packets] = row["flows"]
        assert "SYNTHETIC" in done.stdout
    assert flows[14000] > 1.8 * flows[7000]


def test_a_capture_without_packets_is_refused_in_one_sentence(tmp_path: Path) -> None:
    from midcall.captures.packets.pcap import packets_of
    from midcall.captures.packets.writer import write_pcap

    empty = tmp_path / "none.pcap"
    write_pcap(empty, packets_of([], []))
    done = bench(empty, "--peers", "", "--json", tmp_path / "x.json")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("holds no packets, there is nothing to measure")
    assert not (tmp_path / "x.json").exists()


def test_a_peer_that_takes_too_long_is_given_up_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bench import __main__ as main
    from tests.bench import tools
    from tests.bench.loads import Load

    monkeypatch.setattr(tools, "PATIENCE", 1)
    slow = tools.Tool(
        lambda program, file: [program, "-c", "import time; time.sleep(9)"], "python3"
    )
    row = main.measure(Load(SAMPLE, "as given", False), 1, {"slow": slow}, tmp_path)
    assert row["too_slow"] == ["slow"]
    assert "slow" not in row["tools"]
    assert "slow took longer than" in main.notes([row], 0, 1, {"slow": slow})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_bench_stops_the_peer_that_it_runs(
    tmp_path: Path, number: signal.Signals
) -> None:
    from tests.bench.tools import LAUNCH

    result = tmp_path / "pid"
    peer = f"import os, time; open({str(result)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(60)"
    # What a shell runs in its background ignores an interrupt.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-I", "-S", "-c", heed + LAUNCH, "60", sys.executable, "-c", peer]
    launcher = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while (
        not (result.exists() and result.read_text().endswith(" ")) and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    launcher.send_signal(number)
    assert launcher.wait(timeout=30)
    while lives(int(result.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives(int(result.read_text()))


def lives(process: int) -> bool:
    """Tell whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_mix_takes_the_first_packets_of_every_flow() -> None:
    from midcall.captures.packets.pcap import read
    from midcall.classifier.engine import Engine
    from tests.bench.loads import short

    packets = read(SAMPLE)
    numbers = Engine().feed(packets)
    kept = short(packets, 3)
    assert kept.total == sum(min(3, int((numbers == one).sum())) for one in set(numbers.tolist()))
    assert kept.frame(0) == packets.frame(0)


def test_made_up_flows_meet_in_the_index_and_headers_nest_as_deep_as_is_followed(
    tmp_path: Path,
) -> None:
    from midcall.captures.packets.pcap import read
    from midcall.classifier.engine import Engine
    from tests.bench.loads import ADVERSARIAL, Load, made_up

    flows = {}
    for name in ADVERSARIAL:
        load: Load = made_up(tmp_path, name, 60)
        engine = Engine()
        engine.feed(read(load.path))
        flows[name] = engine.counters["flows"], engine.counters["too_deep"]
        assert load.synthetic
    assert flows == {"new-flows": (60, 0), "colliding": (60, 0), "nested": (1, 0)}


@pytest.mark.slow
def test_a_result_is_compared_with_an_earlier_one_in_ratios(tmp_path: Path) -> None:
    out, again = tmp_path / "a.json", tmp_path / "b.json"
    bench(SAMPLE, "--repeats", 1, "--peers", "", "--json", out)
    done = bench(SAMPLE, "--repeats", 1, "--peers", "", "--json", again, "--against", out)
    assert "then and now" in done.stdout
    assert done.returncode == 0


def test_an_unknown_load_or_peer_is_named(tmp_path: Path) -> None:
    done = bench("--loads", "mixx", "--json", tmp_path / "x.json")
    assert "no load 'mixx'" in done.stderr
    assert "no peer 'ndpi'" in bench(SAMPLE, "--peers", "ndpi").stderr


def test_growth_has_new_flows_in_every_round_and_counts_what_it_costs(tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    done = bench("--growth", 30000, "--packets", 6000, "--samples", "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    rows = found["rounds"]
    assert [row["packets"] for row in rows] == [6000, 12000, 18000, 24000, 30000]
    flows = [row["flows"] for row in rows]
    assert flows == [flows[0] * turn for turn in range(1, 6)]
    assert all(row["ns_per_packet"] > 0 for row in rows)
    assert found["synthetic"] is True
    assert found["later_by_earlier"] > 0
    assert out.with_suffix(".svg").read_text().startswith("<svg")
