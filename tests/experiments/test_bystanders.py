# SPDX-License-Identifier: BSD-3-Clause
"""Bystanders of a run: mixes at stated shares, and other people's calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import load
from midcall.experiments.cells.virtual_cell import collateral_of
from midcall.experiments.measure import collateral as bystanders
from midcall.experiments.measure.collateral import ALL, CALLS, Told
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.report import html
from midcall.experiments.report.sections import collateral
from midcall.experiments.results import reader, schema
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.spec import load as load_spec
from tests.experiments.fake_run import fake_run

CELL = Cell("inwi", "h", "A title", "4g", "2016-01-20", True, None, ("whatsapp",))


def group(name: str, kind: str, flows: int, hit: int) -> dict[str, Any]:
    counts = {"flows": flows, "hit": hit, "bytes": 1000 * flows, "bytes_hit": 500 * hit}
    return {"group": name, "protocol": kind, **counts, "untested": 0}


def talk(app: str, hit: int, **more: Any) -> Told:
    one = load(local=False).named("sample-whatsapp-audio")
    call = Call.model_validate(
        {"id": "call-1", "app": app, "kind": "audio", "inferred": False}
        | {"timer_s": 39.5, "timer_source": "RFC 8489"}
    )
    loss = {"flows": 2, "hit": hit, "bytes": 8000, "bytes_hit": 4000 * hit}
    about = {"verdict": "CUT" if hit else "OK", "blocked": bool(hit), "call": "call-1"}
    real = one.model_copy(update={"synthetic": False, "group": "G", "sha256": "ab"})
    item = Item(real, Path(), [call], [])
    loss |= {"seconds": 60, "seconds_lost": 30 * hit}
    return Told(item, call, about | {"sha256": "ab", "loss": loss} | more)


def rows_at(share: float, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["protocol"]: row for row in rows if row["share"] == share}


def test_a_mix_weighs_innocent_flows_and_call_flows_by_their_shares() -> None:
    innocent = [group(f"g{n}", "dns", 90, 0) for n in range(9)]
    innocent += [group(f"g{n}", "quic", 10, 1) for n in range(10)]
    rows = bystanders.mixed(1, CELL, innocent, [talk("whatsapp", 2)])
    schema.table("mixes", rows)
    table = rows_at(0.1, rows)
    assert list(table) == [ALL, "quic", CALLS]
    assert table[ALL]["flows_per_million"] == pytest.approx(0.9 * 1e6 * 10 / 910)
    assert table["quic"]["flows_per_million"] == table[ALL]["flows_per_million"]
    assert table[CALLS]["flows_per_million"] == pytest.approx(0.1 * 1e6)
    octets = 0.9 * 1000 + 0.1 * 4000
    assert table[ALL]["bytes_per_million"] == pytest.approx(0.9e6 * 5000 / 910 / octets)
    assert table[CALLS]["bytes_per_million"] == pytest.approx(0.1e6 * 4000 / octets)
    assert table[ALL]["of_hits"] + table[CALLS]["of_hits"] == pytest.approx(1.0)
    assert table[ALL]["flows_low"] <= table[ALL]["flows_per_million"] <= table[ALL]["flows_high"]
    assert table[CALLS]["flows_high"] is None  # one group


@pytest.mark.parametrize(("targets", "mixes"), [(None, True), (("whatsapp",), True), ((), False)])
def test_an_operator_after_no_apps_calls_has_none_in_its_mix(
    targets: tuple[str, ...] | None, mixes: bool
) -> None:
    one = talk("whatsapp", 1)
    spec = load_spec("smoke")[0].model_copy(update={"apps": ["whatsapp"]})
    outcomes = {0: {"key": "k", "calls": [one.entry], "groups": [group("g", "dns", 10, 1)]}}
    grid = [CELL._replace(targets=targets)]
    rows = bystanders.mix_rows(spec, grid, Corpus([one.item], []), outcomes)
    assert bool(rows) == mixes


def test_an_interval_is_as_wide_as_the_groups_differ() -> None:
    alike = [group(f"g{n:02}", "dns", 100, 10) for n in range(20)]
    apart = [group(f"g{n:02}", "dns", 100, 200 * (n == 0)) for n in range(20)]
    same, other = (
        rows_at(0.01, bystanders.mixed(1, CELL, some, [talk("whatsapp", 1)]))[ALL]
        for some in (alike, apart)
    )
    assert same["flows_per_million"] == pytest.approx(other["flows_per_million"])
    assert same["flows_high"] - same["flows_low"] == pytest.approx(0, abs=1e-6)
    assert other["flows_low"] == 0.0
    assert other["flows_high"] > 2 * other["flows_per_million"]


def test_the_share_hit_of_a_kind_is_bounded_by_its_groups_not_by_its_flows() -> None:
    groups = [group(f"g{n:02}", "dns", 100, 100 * (n == 0)) for n in range(10)]
    groups += [group(f"g{n:02}", "quic", 100, 10) for n in range(9)]
    groups += [group(f"g{n:02}", "ntp", 100, 0) for n in range(10)]
    groups += [group(f"g{n:02}", "sip", 1, 1) for n in range(10)]
    merged = bystanders.merged({one["group"] + one["protocol"]: {one["protocol"]: [
        *(one[name] for name in bystanders.NAMES), 0]} for one in groups})  # fmt: skip
    outcome = {"key": "k", "groups": groups, "collateral": collateral_of(merged)}
    rows = bystanders.hit_rows(1, [CELL], {0: outcome})
    schema.table("collateral", rows)
    dns, ntp, quic, sip = rows
    assert (dns["hit"], dns["flows"], dns["groups"], dns["low"]) == (100, 1000, 10, 0.0)
    assert dns["high"] >= 0.3  # flows taken as independent end at 12 %
    assert (quic["groups"], quic["low"], quic["high"]) == (9, None, None)
    none_of_ten = clopper_pearson(0, 10)
    assert none_of_ten is not None
    assert (ntp["groups"], ntp["low"], ntp["high"]) == (10, *none_of_ten)
    assert (sip["hit"], sip["high"]) == (10, 1.0)
    assert sip["low"] == pytest.approx(1 - none_of_ten[1])
    assert 0 < dns["all_low"] < 200 / 2910 < dns["all_high"] == ntp["all_high"]


def test_where_nothing_is_hit_the_interval_ends_at_the_groups_that_could_be() -> None:
    innocent = [group(f"g{n}", "dns", 100, 0) for n in range(10)]
    row = rows_at(0.1, bystanders.mixed(1, CELL, innocent, [talk("whatsapp", 0)]))[ALL]
    assert (row["flows_per_million"], row["flows_low"]) == (0.0, 0.0)
    none_of_ten = clopper_pearson(0, 10)
    assert none_of_ten is not None
    assert row["flows_high"] == pytest.approx(0.9e6 * none_of_ten[1])
    assert row["of_hits"] is None


def test_calls_of_apps_that_nobody_aimed_at_are_bystanders() -> None:
    some = [talk("viber", 1), talk("whatsapp", 1)]
    held = Corpus([some[0].item], [])
    outcomes = {0: {"key": "k", "calls": [some[0].entry]}}
    rows = bystanders.call_rows([CELL], held, outcomes)
    schema.table("bystander_calls", rows)
    assert [(row["app"], row["blocked"], row["seconds_lost"]) for row in rows] == [("viber", 1, 30)]
    aimed = Corpus([some[1].item], [])
    assert bystanders.call_rows([CELL], aimed, {0: {"calls": [some[1].entry]}}) == []
    nobody = CELL._replace(targets=None)
    assert bystanders.call_rows([nobody], held, outcomes) == []


def test_a_call_that_never_works_is_no_bystander() -> None:
    broken = talk("viber", 1, verdict="INVALID")
    held = Corpus([broken.item], [])
    assert bystanders.call_rows([CELL], held, {0: {"calls": [broken.entry]}}) == []


def test_the_summary_tells_each_hypothesis_where_it_costs_most() -> None:
    place = {"operator": "inwi", "hypothesis": "h", "access": "4g"}
    counts = {"app": "zoom", "calls": 4, "degraded": 0, "seconds": 60}
    calls = [
        {**place, "date": date, **counts, "blocked": blocked, "seconds_lost": blocked}
        for date, blocked in (("2015-12-15", 0), ("2016-01-20", 3), ("2016-03-15", 1))
    ]
    result = bystanders.other_costs({"mixes": [], "bystander_calls": calls})
    assert [(row["date"], row["blocked"]) for row in result["calls"]] == [("2016-01-20", 3)]
    assert result["mixes"] == []


def test_the_report_says_who_pays_in_a_mix(tmp_path: Path) -> None:
    fake_run(tmp_path / "run")
    html.render(tmp_path / "run")
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert "<b>19,980</b> <small>9,000 to 31,000</small>" in page
    assert "25 of 100 hits are calls" in page
    assert "<b>3 of 24</b>" in page
    assert "1.0 of 8.0" in page
    assert "Zoom 3 of 12" in page
    assert 'href="mixes.csv"' in page


def test_operators_of_equal_figures_share_a_row(tmp_path: Path) -> None:
    rows = reader.read(fake_run(tmp_path / "run")).at("collateral", "mixes")
    twin = [{**row, "operator": "meditel"} for row in rows]
    result = collateral.mixes([*rows, *twin])
    assert [line["operators"] for line in result["lines"]] == [["inwi", "meditel"]]
