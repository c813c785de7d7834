# SPDX-License-Identifier: BSD-3-Clause
"""The package as programs import it: cheap to import, and its examples give what they say."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import midcall
import midcall.captures.truth.labels
from midcall.errors import CaptureError, ExperimentError
from midcall.experiments.cells.classify import classify_file
from midcall.experiments.results import dictionary, frame
from midcall.experiments.run import runner  # noqa: F401 - before `paper` replaces what it imports
from midcall.experiments.tools import replay as replaying
from tests.experiments.fake_run import fake_run

ROOT = Path(__file__).resolve().parents[2]
HOWTO = ROOT / "docs" / "howto" / "import.md"
SAMPLE = ROOT / "captures" / "samples" / "sample-whatsapp-audio.pcap"
HEAVY = ("numba", "numpy", "pyarrow", "pandas", "pydantic", "scipy")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, in which the newest run is an obviously fake one."""
    fake_run(tmp_path / "runs" / "latest")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_importing_the_package_imports_nothing_heavy() -> None:
    lines = (
        "import sys, midcall, midcall.captures",
        f"found = [one for one in {HEAVY} if one in sys.modules]",
        "assert callable(midcall.captures) and midcall.run",
        "print(found)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("module", [midcall, midcall.captures, dictionary])
def test_the_examples_of_the_docstrings_give_what_they_say(place: Path, module: Any) -> None:
    done = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert done.attempted
    assert not done.failed


def test_every_function_has_an_example() -> None:
    for name in midcall.__all__:
        function = midcall.captures.__call__ if name == "captures" else getattr(midcall, name)
        assert ">>> " in (function.__doc__ or ""), name


def test_the_examples_of_the_page_run(place: Path) -> None:
    (place / "mycall.pcap").write_bytes(SAMPLE.read_bytes())
    blocks = re.findall(r"^```python\n(.*?)^```", HOWTO.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) > 3
    names: dict[str, Any] = {}
    for block in blocks:
        if "midcall.run(" not in block:
            exec(compile(block, str(HOWTO), "exec"), names)


# ---- captures


def test_captures_is_a_package_and_a_function() -> None:
    assert midcall.captures.truth.labels.ROLES
    assert [one.name for one in midcall.captures("sample-dns")] == ["sample-dns"]


def test_filters_narrow_the_captures() -> None:
    every = midcall.captures("sample-*")
    calls = midcall.captures("sample-*", role="call")
    assert 0 < len(calls) < len(every)
    assert {one.truth.app for one in midcall.captures("sample-*", app=["viber", "skype"])} == {
        "viber",
        "skype",
    }
    assert midcall.captures("sample-*", real_only=True) == []
    assert {one.kind for one in midcall.captures(kind="recorded")} == {"recorded"}
    with pytest.raises(CaptureError, match="did you mean"):
        midcall.captures("sample-whatsap-audio")


def test_a_capture_that_is_not_here_is_given_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert midcall.captures("zoom") == []
    (lost,) = midcall.captures("zoom", missing=True)
    assert lost.path is None
    assert lost.missing
    assert lost.calls
    assert lost.sources[0] in lost.citation
    for use in (lambda: lost.packets, lambda: midcall.classify(lost), lambda: midcall.replay(lost)):
        with pytest.raises(CaptureError, match="capture zoom: is not on this machine"):
            use()


# ---- classify


def test_classify_gives_what_the_command_gives() -> None:
    flows = midcall.classify(SAMPLE)
    assert flows.to_arrow().drop_columns("frame").equals(classify_file(str(SAMPLE)).table)
    (item,) = midcall.captures("sample-whatsapp-audio")
    packets = midcall.classify(item.packets)
    assert packets.to_arrow().drop_columns("file").equals(flows.to_arrow().drop_columns("file"))
    truth = {one.frame: one.app for one in item.flows}
    assert set(flows["frame"].tolist()) >= truth.keys()


def test_a_table_is_rows_columns_arrow_and_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    table: frame.Frame[Any] = frame.Frame(
        pa.table({"app": ["a", None, "c"], "n": [1, None, 3], "s": [0.5, 1.0, 1.5]})
    )
    assert len(table) == 3
    assert table[0] == {"app": "a", "n": 1, "s": 0.5} == next(iter(table))
    assert table[-1]["app"] == "c"
    assert [row["app"] for row in table[1:]] == [None, "c"]
    assert len(table[::2]) == 2
    assert table["s"].dtype == np.float64
    assert np.isnan(table["n"][1])
    assert table["app"].tolist() == ["a", None, "c"]
    assert table.to_pandas().shape == (3, 3)
    with pytest.raises(KeyError, match=r"no column 'ap' .did you mean app"):
        table["ap"]
    with pytest.raises(IndexError, match="row 3 of a table of 3 rows"):
        table[3]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExperimentError, match="pip install pandas"):
        table.to_pandas()


# ---- replay


def test_replay_gives_what_the_command_gives(tmp_path: Path) -> None:
    result = midcall.replay(SAMPLE, "maroc-telecom/stun", access="3g", seed=4)
    order = replaying.Order(str(SAMPLE), "maroc-telecom/stun", "3g", seed=4)
    assert result.document == replaying.document(replaying.play(order))
    assert result.calls[0]["verdict"] in repr(result)
    assert {one["fate"] for one in result.fates} >= {"dropped", "delivered"}
    result.write(fates=tmp_path / "fates.csv")
    lines = (tmp_path / "fates.csv").read_text().splitlines()
    assert len(lines) == len(result.fates) + 1
    assert lines[0].split(",") == result.fates.columns


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(ExperimentError, match="expected a day, as 2016-03-15"):
        midcall.replay(SAMPLE, date="yesterday")


# ---- results


def test_results_give_tables_summary_and_columns(place: Path) -> None:
    results = midcall.read()
    rows = json.loads((results.folder / "summary.json").read_text())
    assert results.summary == rows
    assert results.calls is results["calls"]
    assert "calls" in results.tables
    assert "laws" not in results.tables
    assert len(results.laws) == 0
    assert results.laws.columns[0] == "law"
    assert [one.name for one in results.describe("calls")] == results.calls.columns
    assert "calls" in dir(results)
    assert results.report.name == "report.html"
    assert 'name = "fake"' in results.spec
    with pytest.raises(ExperimentError, match=r"no table 'cals' .did you mean calls"):
        results["cals"]
    with pytest.raises(AttributeError, match="did you mean calls"):
        _ = results.cals
    (results.folder / "cells.parquet").write_bytes(b"x")
    with pytest.raises(ExperimentError, match=r"cells.parquet: cannot be read"):
        _ = results.cells
    with pytest.raises(ExperimentError, match="no run 'nothing'"):
        midcall.read("nothing")


def test_a_run_gives_its_results(
    paper: Any, paper_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = midcall.run(paper_spec, runs=tmp_path / "runs", jobs=1, quiet=True)
    assert results.summary["cells"]["failed"] == 0
    assert len(results.calls) == 6
    assert midcall.read(results.folder).summary == results.summary
    defined = json.loads((results.folder / "schema.json").read_text())["$defs"]
    assert sorted(defined) == results.tables
    assert midcall.read(runs=tmp_path / "runs").folder == results.folder.resolve()
