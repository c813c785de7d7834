# SPDX-License-Identifier: BSD-3-Clause
"""The whole lab on the real testbed: the same results on one process and on two."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.truth.catalogue import load
from midcall.experiments.measure import summary
from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.run.runner import Finished
from midcall.experiments.spec.options import Options
from tests.conftest import of_each_group

TABLES = ("flows", "calls", "collateral")


def made(spec: str, folder: Path, jobs: int, **more: Any) -> Finished:
    """Run a spec with a cache of its own."""
    options = Options(
        jobs=jobs,
        runs=folder / "runs",
        cells=folder / f"cells-{jobs}",
        stream=io.StringIO(),
        **more,
    )
    return runner.run(spec, options)


def timeless(run: Finished) -> dict[str, Any]:
    held = json.loads((run.folder / "summary.json").read_text())
    return {key: value for key, value in held.items() if key not in summary.TIMED}


@pytest.mark.slow
def test_the_samples_give_the_same_on_one_process_and_on_two(tmp_path: Path) -> None:
    one, two = made("smoke", tmp_path, 1), made("smoke", tmp_path, 2)
    assert one.failed == two.failed == 0
    assert timeless(one) == timeless(two)
    for name in TABLES:
        for end in ("csv", "parquet"):
            files = [run.folder / f"{name}.{end}" for run in (one, two)]
            assert files[0].read_bytes() == files[1].read_bytes()
    cells = [
        [{**row, "seconds": None} for row in schema.read_table(run.folder, "cells")]
        for run in (one, two)
    ]
    assert cells[0] == cells[1]


def test_a_block_is_seen_in_the_samples_and_only_while_it_is_in_force(tmp_path: Path) -> None:
    result = made("smoke", tmp_path, 1).summary
    blocked = {(row["access"], row["date"]) for row in result["mission"] if row["blocked"]}
    assert ("4g", "2016-01-20") in blocked
    assert not any(date == "2015-12-15" for _, date in blocked)
    assert all(row["synthetic"] for row in result["mission"])
    assert result["operators"] == []
    apps = {row["app"] for row in result["calls"]}
    assert apps == {"whatsapp", "skype", "viber", "facetime", "messenger"}


@pytest.mark.longest
@pytest.mark.corpus
def test_the_default_experiment_answers_the_mission_on_real_calls(
    tmp_path: Path, corpus: Path
) -> None:
    few = [one.name for one in of_each_group(load(local=False).captures) if not one.ours]
    text = (Path(runner.specs.SHIPPED) / "morocco-2016.toml").read_text()
    for old, new in (
        ("arms = true", "arms = false"),
        ('access = ["3g", "4g", "adsl", "wifi"]', 'access = ["4g", "adsl"]'),
        ('innocents = "all"', f'innocents = "all"\nnames = {json.dumps(few)}'),
    ):
        assert old in text
        text = text.replace(old, new)
    spec = tmp_path / "few.toml"
    spec.write_text(text)
    done = made(str(spec), tmp_path, 0, corpus=corpus)
    result = done.summary
    assert done.failed == 0
    assert result["captures"]["real"] + result["captures"]["missing"] == len(few)
    assert result["accuracy"]["false_calls"]["five_hits"] == 0
    real = [row for row in result["calls"] if not row["synthetic"]]
    assert {row["app"] for row in real} == set(runner.specs.load(str(spec))[0].apps)
    assert not any(row["access"] == "adsl" and row["operator"] != "maroc-telecom" for row in real)
    quiet = [row for row in real if row["date"] in ("2015-12-15", "2016-11-15")]
    assert quiet
    assert not any(row["blocked"] for row in quiet)
    assert any(row["blocked"] for row in real)
    younger = {row["capture"] for row in real if row["later_client"]}
    assert "wa_voice" in younger
    assert "viber_mobile" not in younger
    assert result["collateral"]["flows_per_cell"] > 1000
    assert "31.13." not in (done.folder / "summary.json").read_text()
    addresses = {row["dst_ip"] for row in schema.read_table(done.folder, "flows")}
    assert all("x" in address for address in addresses if address)


@pytest.mark.corpus
def test_an_added_capture_without_flow_labels_is_in_the_results(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midcall.captures.own.add import add
    from midcall.captures.packets.pcap import read
    from midcall.captures.packets.writer import write_pcap

    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    found = next(corpus.rglob("wa_video.pcap"))
    mine = tmp_path / "mycall.pcap"
    write_pcap(mine, read(found).take(slice(0, 1200)))
    add(mine, "whatsapp", "video", access="wifi", year=2019)
    spec = tmp_path / "mine.toml"
    text = (Path(runner.specs.SHIPPED) / "smoke.toml").read_text()
    text = text.replace("added = false", 'added = true\nnames = ["mycall"]')
    spec.write_text(text)
    result = made(str(spec), tmp_path, 1).summary
    assert result["captures"]["added"] == 1
    rows = [row for row in result["calls"] if row["hypothesis"] == "signature"]
    fates = {(row["date"], row["verdict"] == "OK") for row in rows if row["access"] == "4g"}
    assert fates == {("2015-12-15", True), ("2016-01-20", False)}
    assert all(row["added"] and row["later_client"] for row in rows)
    assert result["accuracy"]["apps"] == {}
    assert [row["hits"] for row in result["accuracy"]["calls_recognised"]] == [1]
