# SPDX-License-Identifier: BSD-3-Clause
"""Support: what an evidence may say follows from where it was seen, and every evidence has some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from midcall.classifier.engine import Engine
from midcall.classifier.path.verdict import apply_evidence, claimed
from midcall.classifier.state.evidence import BASES, SHARED, Basis, pack
from midcall.classifier.state.evidence_support import (
    INNOCENT,
    OWN,
    Seen,
    claim,
    claims,
    in_words,
    load,
    save,
    table,
    unsupported,
)
from midcall.classifier.state.flow_table import CLAIM_KEYS, CLAIMS, FLOW, METERS
from midcall.classifier.state.verdicts import (
    APPS,
    CERTAIN,
    META,
    NOT_CALL,
    SETUP,
    UNSURE,
    VIBER,
    WHATSAPP,
)
from midcall.errors import ClassifierError

KEY = WHATSAPP << 8 | 77
PLAIN = Basis(CERTAIN, SETUP, "", (), 0)


def seen(kind: str, sessions: int, repository: str = "one", key: int = KEY) -> Seen:
    """Return a line of a table."""
    return Seen(key >> 8, key & 0xFF, kind, repository, sessions, 3 * sessions)


def test_every_evidence_is_seen_or_described() -> None:
    assert unsupported(load()) == [], (
        "run `midcall support -o classifier/support.csv`, or say who describes it"
    )


def test_an_evidence_without_support_is_named() -> None:
    lines = [row for row in load() if (row.app, row.number) != (WHATSAPP, 3)]
    assert unsupported(lines) == ["whatsapp 3: STUN type {x}, seen in WhatsApp alone"]


def test_no_line_is_left_of_an_evidence_that_is_gone() -> None:
    assert {row.key for row in load()} <= set(BASES)


@pytest.mark.parametrize(
    ("rows", "basis", "verdict", "app", "confidence"),
    [
        ([], PLAIN, UNSURE, WHATSAPP, 50),
        ([seen(OWN, 1)], PLAIN, UNSURE, WHATSAPP, 75),
        ([seen(OWN, 2)], PLAIN, CERTAIN, WHATSAPP, 83),
        ([seen(OWN, 1), seen(OWN, 1, "two")], PLAIN, CERTAIN, WHATSAPP, 83),
        ([seen(OWN, 1)], PLAIN._replace(published=("x",)), CERTAIN, WHATSAPP, 83),
        ([], PLAIN._replace(published=("x",)), UNSURE, WHATSAPP, 75),
        ([], PLAIN._replace(spec="RFC 1"), CERTAIN, WHATSAPP, 94),
        ([seen(OWN, 9), seen(INNOCENT, 1)], PLAIN, UNSURE, WHATSAPP, 86),
        ([seen(OWN, 9), seen("viber", 1)], PLAIN, UNSURE, WHATSAPP, 86),
        ([seen(OWN, 9), seen("messenger", 9)], PLAIN, CERTAIN, META, 97),
        ([seen(OWN, 1), seen("messenger", 1)], PLAIN, CERTAIN, META, 83),
        ([seen(OWN, 9), seen("messenger", 9), seen("viber", 1)], PLAIN, UNSURE, WHATSAPP, 48),
        ([seen(OWN, 99), seen(INNOCENT, 1)], PLAIN, CERTAIN, WHATSAPP, 99),
    ],
)  # fmt: skip
def test_what_may_be_said_follows_from_sessions_and_descriptions(
    rows: list[Seen], basis: Basis, verdict: int, app: int, confidence: int
) -> None:
    result = claim(KEY, basis, rows)
    assert (result.verdict, result.app, result.confidence) == (verdict, app, confidence)


def test_more_right_sessions_never_say_less_and_more_wrong_ones_never_more() -> None:
    for right in range(6):
        for wrong in range(3):
            now = claim(KEY, PLAIN, [seen(OWN, right), seen("viber", wrong)])
            more = claim(KEY, PLAIN, [seen(OWN, right + 1), seen("viber", wrong)])
            worse = claim(KEY, PLAIN, [seen(OWN, right), seen("viber", wrong + 1)])
            assert more.verdict >= now.verdict >= worse.verdict
            assert more.confidence >= now.confidence >= worse.confidence


def test_one_repository_alone_makes_nothing_certain_without_a_description() -> None:
    for key, result in table(load()).items():
        basis, single = BASES[key], [row for row in load() if row.key == key and row.kind == OWN]
        if len(single) == 1 and single[0].sessions == 1 and not basis.spec and not basis.published:
            assert result.verdict <= max(UNSURE, NOT_CALL) or result.app == META


def test_a_table_is_written_and_read_alike(tmp_path: Path) -> None:
    rows = [seen(OWN, 2), seen("viber", 1, "two")]
    save(rows, tmp_path / "support.csv")
    assert load(tmp_path / "support.csv") == sorted(rows)
    with pytest.raises(ClassifierError, match=r"^none\.csv: cannot be read as a support table"):
        load(tmp_path / "none.csv")


def test_the_meter_says_what_the_table_says() -> None:
    meter = np.zeros(METERS, np.int64)
    meter[CLAIMS : CLAIMS + 2 * CLAIM_KEYS] = claims(load())
    for key, result in table(load()).items():
        basis = BASES[key]
        if key & 0xFF > SHARED or key == APPS.index("rtc") << 8 | 10:
            continue
        supported = int(claimed(pack(key >> 8, key & 0xFF, basis.verdict, basis.role), meter))
        assert (supported >> 20 & 15, supported >> 8 & 0xFF, supported >> 24) == (
            result.verdict, result.app, result.confidence
        )  # fmt: skip


def test_two_different_unsure_signs_of_one_app_are_certain_together_and_one_twice_is_not() -> None:
    meter = np.zeros(METERS, np.int64)
    for number in (77, 78):
        meter[CLAIMS + (VIBER << 8 | number)] = UNSURE << 16 | VIBER << 8 | 75
    one, other = (pack(VIBER, number, CERTAIN, SETUP) for number in (77, 78))
    flow = np.zeros(1, FLOW)[0]
    apply_evidence(flow, meter, one, 0, 1)
    apply_evidence(flow, meter, one, 0, 2)
    assert (flow["verdict"], flow["app"], flow["confidence"]) == (UNSURE, VIBER, 75)
    apply_evidence(flow, meter, other, 0, 3)
    assert (flow["verdict"], flow["app"], flow["confidence"]) == (CERTAIN, VIBER, 93)


def test_signs_of_two_apps_do_not_agree() -> None:
    meter = np.zeros(METERS, np.int64)
    for app in (VIBER, WHATSAPP):
        meter[CLAIMS + (app << 8 | 77)] = UNSURE << 16 | app << 8 | 75
    flow = np.zeros(1, FLOW)[0]
    for app in (VIBER, WHATSAPP, VIBER):
        apply_evidence(flow, meter, pack(app, 77, CERTAIN, SETUP), 0, 1)
    assert (flow["verdict"], flow["app"]) == (UNSURE, VIBER)


def test_support_is_said_in_words() -> None:
    rows = [seen(OWN, 2), seen(OWN, 1, "two"), seen("messenger", 3), seen(INNOCENT, 1)]
    rows = [row._replace(app=WHATSAPP, number=5) for row in rows]
    assert in_words(WHATSAPP << 8 | 5, rows) == (
        "seen in 3 sessions of 2 repositories, in 1 of innocent flows, in 3 of messenger"
    )
    assert in_words(WHATSAPP << 8 | 5, []) == "seen in no public recording"
    assert in_words(APPS.index("sip") << 8 | 1, []).endswith("; RFC 3261")
    assert in_words(0xFFFF, []) == ""


def test_an_engine_that_listens_keeps_every_evidence_with_its_flow() -> None:
    from tests.classifier.payloads import whatsapp_allocate
    from tests.classifier.wire import Wire

    packets = Wire().udp(whatsapp_allocate()).udp(whatsapp_allocate()).packets
    engine = Engine(listen=8)
    engine.feed(packets)
    spoken = engine.spoken()
    assert spoken[:, 1].tolist() == [0] * len(spoken)
    assert {(int(evidence) >> 8 & 0xFF, int(evidence) & 0xFF) for evidence in spoken[:, 0]} == {
        (WHATSAPP, 1)
    }
    small = Engine(listen=1)
    small.feed(packets)
    assert len(small.spoken()) == 1
    assert len(Engine().spoken()) == 0
