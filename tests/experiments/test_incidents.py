# SPDX-License-Identifier: BSD-3-Clause
"""What users said about the incidents of 2025 and 2026, as regression tests of the hypotheses.

A statement without a reason to differ must hold; one with a reason must not, and the reason must be
the right one where it can be tested.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.fetch.locate import locate_capture
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import calls
from midcall.errors import CaptureError
from midcall.experiments.cells.evasion_runs import PLAIN, rewrite
from midcall.experiments.probe import incidents
from midcall.experiments.probe.incidents import Heard, Statement, hear, played
from midcall.experiments.proofs.prober import spec_run
from midcall.experiments.results import schema
from midcall.experiments.spec import backends
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.evasion.disguises import own_packets
from midcall.testbed.evasion.workarounds import JUNK
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.sides import CALLER
from tests.conftest import corpus_folder

FILE = incidents.load()
STATEMENTS = {one.id: one for one in FILE.statement}


def heard(name: str, seed: int = 7, **more: Any) -> Heard:
    """Play a statement; skips where its capture is not on this machine."""
    try:
        return hear(STATEMENTS[name], seed, corpus_folder(), **more)
    except CaptureError as error:
        if "not on this machine" not in str(error):
            raise
        pytest.skip(str(error))


def with_match(statement: Statement, **more: Any) -> Policy:
    """Return a statement's policy with more conditions in the match of every rule."""
    policy = policy_named(statement.policy, statement.access, statement.date)
    rules = []
    for rule in policy.rules:
        fields = rule.model_dump(exclude_unset=True, by_alias=True, exclude={"digest"})
        rules.append(type(rule).model_validate(fields | {"match": fields["match"] | more}))
    return Policy(tuple(rules), policy.sets, policy.fail, sees=policy.sees)


def test_statements_are_about_shipped_hypotheses_and_have_threads() -> None:
    assert len(STATEMENTS) == len(FILE.statement) >= 12
    assert len({one.source for one in FILE.statement}) >= 8
    for one in (*FILE.incident, *FILE.statement):
        assert policy_named(one.policy, one.access, one.date).rules
    operators = {one.policy.partition("/")[0] for one in FILE.statement}
    assert operators >= {"russia-2025-08", "russia-2025-12", "russia-2026-03"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_holds_or_differs_for_a_known_reason(name: str) -> None:
    one = heard(name)
    assert one.result != incidents.UNKNOWN, one.reason
    assert one.agrees == (not one.statement.differs), f"{one.result}: {one.reason}"


@pytest.mark.parametrize("name", ["telegram-breaks-up", "forced-to-tcp-in-2026"])
def test_a_verdict_on_losses_does_not_hang_on_one_seed(name: str) -> None:
    assert {heard(name, seed).result for seed in range(4)} == {"degraded"}


def test_a_rule_on_the_first_packet_alone_lets_junk_revive_the_call() -> None:
    one = STATEMENTS["junk-revives-whatsapp"]
    first = with_match(one, packets=1)
    assert heard(one.id, policy=first).result == one.says
    assert (
        hear(one.model_copy(update={"change": PLAIN}), 7, corpus_folder(), first).result == "fails"
    )


def hello_of(statement: Statement) -> str:
    """Return the fingerprint of the DTLS hello of a statement's call, in hex."""
    from midcall.experiments.localise.packet_fields import read as fields
    from midcall.testbed.probing.probe import probe_of

    path, _ = locate_capture(statement.capture, corpus_folder())
    found = {fields(one).hello for one in probe_of(read(path)) if one.payload[:1] == b"\x16"}
    return f"{max(found):016x}"


def test_a_rule_on_one_fingerprint_lets_another_pass() -> None:
    one = STATEMENTS["another-fingerprint-passes"]
    narrow = with_match(one, hello=[hello_of(one)])
    assert heard(one.id, policy=narrow).result == one.says
    assert heard("blocked-after-the-hello", policy=narrow).result == "fails"
    assert heard("browsers-pass", policy=narrow).result == STATEMENTS["browsers-pass"].says


def test_no_statement_is_blocked_without_a_rule() -> None:
    for name in ("junk-helps-no-more", "blocked-after-the-hello", "browsers-pass"):
        assert heard(name, policy=Policy(())).result == "works"


def test_a_statement_does_not_depend_on_the_clock_of_its_capture() -> None:
    one = STATEMENTS["browsers-pass"]
    path, entry = locate_capture(one.capture, None)
    assert entry is not None
    item = Item(entry, path, calls(entry.sha256), [])
    policy = policy_named(one.policy, one.access, one.date)
    packets = read(path)
    later = packets._replace(time=packets.time + 86_400_000_000_123)
    verdicts = [played(item, some, PLAIN, policy, one.access, 7)[0] for some in (packets, later)]
    assert verdicts[0].verdict == verdicts[1].verdict
    assert verdicts[0].media_lost == verdicts[1].media_lost


def test_a_capture_that_is_not_on_this_machine_is_listed_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(words: str, corpus: Path | None) -> tuple[Path, None]:
        raise CaptureError(f"capture {words}: is not on this machine")

    monkeypatch.setattr(incidents, "locate_capture", nowhere)
    played, missing = incidents.heard(7)
    assert not played
    assert len(missing) == len(STATEMENTS)
    answer = spec_run.one_answer((FILE.incident[0], 7, None))
    assert answer == (
        f"incident {FILE.incident[0].policy}: capture {FILE.incident[0].capture}: is not on this "
        "machine"
    )


def test_rows_have_the_columns_of_the_table() -> None:
    rows = [heard(name).row() for name in ("browsers-pass", "junk-helps-no-more")]
    assert schema.table("workarounds", rows).num_rows == 2
    assert [row["agrees"] for row in rows] == [False, True]
    assert rows[1]["unchanged"] == "fails"


# ---- the work-arounds themselves


def recorded() -> tuple[Item, Packets]:
    """Return a browser's call over TURN, and its packets."""
    path, entry = locate_capture("lab-chromium-audio-turn-udp-4g", None)
    assert entry is not None
    return Item(entry, path, calls(entry.sha256), []), read(path)


@pytest.mark.parametrize("name", ["junk-first", "over-tcp"])
def test_a_workaround_leaves_a_call_alive_where_no_rule_is(name: str) -> None:
    item, packets = recorded()
    assert played(item, packets, name, Policy(()), "4g", 3)[0].verdict == "OK"


def test_over_tcp_carries_each_datagram_behind_its_length() -> None:
    item, packets = recorded()
    before, after = (rewrite(name, packets, item, 3) for name in (PLAIN, "over-tcp"))
    own = own_packets(before.script)
    assert len(own) > 100
    numbers: dict[bytes, int] = {}
    for i in own.tolist():
        old, new = bytes(before.dress.packet(i)), bytes(after.dress.packet(i))
        assert (old[9], new[9]) == (UDP, TCP)
        assert (old[12:24], new[42:]) == (new[12:24], old[28:])  # addresses, ports; payload
        assert int.from_bytes(new[40:42], "big") == len(new) - 42 == len(old) - 28
        sequence = int.from_bytes(new[24:28], "big")
        assert sequence == numbers.get(new[12:24], 1)
        numbers[new[12:24]] = sequence + len(new) - 40


def test_junk_goes_before_the_first_datagram_of_each_flow() -> None:
    item, packets = recorded()
    changed = rewrite("junk-first", packets, item, 3)
    first: dict[bytes, int] = {}
    for i in own_packets(changed.script).tolist():
        if changed.script.side[i] == CALLER:
            first.setdefault(bytes(changed.dress.packet(i)[12:24]), i)
    assert changed.added
    for i in changed.added:
        ends = bytes(changed.dress.packet(i)[12:24])
        assert i == first.pop(ends) - 1
        assert len(changed.dress.packet(i)) == 28 + JUNK
    assert not first


# ---- in a run


def test_a_spec_gets_its_tables_and_what_could_not_be_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, said = heard("browsers-pass"), list[str]()
    monkeypatch.setattr(incidents, "heard", lambda seed, corpus: ([one], ["statement x: gone"]))
    monkeypatch.setattr(spec_run, "answered", lambda *_: ([], ["incident y: gone"]))
    monkeypatch.setattr(backends, "lacking", lambda: ["live: no root"])
    spec, _ = specs.load("probe")
    assert spec.probe is not None
    assert spec.probe.incidents
    few = spec.probe.model_copy(update={"clean": 0, "one": 0, "two": 0, "live": 5})
    tables, document = spec_run.within(
        spec.model_copy(update={"probe": few}), None, 1, io.StringIO(), said.append
    )
    assert tables == {"workarounds": [one.row()]}
    assert document["not_played"] == ["statement x: gone", "incident y: gone"]
    assert document["live_lacks"] == ["live: no root"]
    assert {f"notice: {words}" for words in document["not_played"]} <= set(said)
    assert "notice: live: no root" in said


@pytest.mark.slow
def test_the_prober_names_the_rule_of_an_incident_on_a_recording_of_the_lab() -> None:
    (about,) = (one for one in FILE.incident if one.policy == "russia-2026-03/dtls-hello")
    answer = spec_run.one_answer((about, 3, None))
    assert isinstance(answer, dict)
    assert answer["right"], answer["answer"]["act"]
    assert len(answer["record"]) == answer["answer"]["probes"]
    places = [one["probes"] for one in answer["beliefs"]]
    assert places == sorted(places)
    assert 0 < places[0] <= places[-1] <= len(answer["record"])


def test_an_incident_without_its_capture_is_said() -> None:
    about = FILE.incident[0].model_copy(update={"capture": "sample-web"})
    words = spec_run.one_answer((about, 3, None))
    assert isinstance(words, str)
    assert "has no call" in words
