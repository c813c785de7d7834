# SPDX-License-Identifier: BSD-3-Clause
"""The judge: better evidence stays, a call's role grows, and what cannot change is settled."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.classifier.path.verdict import (
    NAMELESS_PATIENCE,
    PATIENCE,
    apply_evidence,
    is_final,
    rank,
    role_rank,
    settle_flow,
)
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_table import FLOW, METERS, SETTLED
from midcall.classifier.state.verdicts import (
    APPS,
    CERTAIN,
    CONTROL,
    MAKER_OF,
    MEDIA,
    MESSAGING,
    MESSENGER,
    META,
    NONE,
    NOT_CALL,
    OTHER,
    RTC,
    SETUP,
    SKYPE,
    UNDECIDED,
    UNSURE,
    VIBER,
    WHATSAPP,
    maker_of,
)

#: Of an engine without claims: each evidence says the most that its rule allows.
METER = np.zeros(METERS, np.int64)

Given = tuple[int, int, int]  # verdict, app, role

NOTHING: Given = (UNDECIDED, NONE, OTHER)
INNOCENT: Given = (NOT_CALL, NONE, OTHER)
CHAT: Given = (NOT_CALL, WHATSAPP, MESSAGING)
HINT: Given = (UNSURE, RTC, MEDIA)
MAYBE: Given = (UNSURE, SKYPE, SETUP)
SOMEBODYS: Given = (CERTAIN, RTC, SETUP)
STREAM: Given = (CERTAIN, RTC, MEDIA)
SET_UP: Given = (CERTAIN, WHATSAPP, SETUP)
REPORTS: Given = (CERTAIN, WHATSAPP, CONTROL)
VOICE: Given = (CERTAIN, WHATSAPP, MEDIA)
METAS: Given = (CERTAIN, META, SETUP)
METAS_MEDIA: Given = (CERTAIN, META, MEDIA)
MESSENGERS: Given = (CERTAIN, MESSENGER, SETUP)
VOICE_OF_SKYPE: Given = (CERTAIN, SKYPE, MEDIA)
ANOTHERS: Given = (CERTAIN, VIBER, MEDIA)

# (evidence in order, the final verdict)
SCENARIOS: dict[str, tuple[list[Given], Given]] = {
    "nothing is said without evidence": ([], NOTHING),
    "any evidence is better than none": ([INNOCENT], INNOCENT),
    "a call is better than innocence": ([INNOCENT, HINT], HINT),
    "innocence does not take back a hint": ([HINT, INNOCENT], HINT),
    "somebody's call is better than a hint of an app": ([MAYBE, SOMEBODYS], SOMEBODYS),
    "an app is better than somebody": ([STREAM, SET_UP], (CERTAIN, WHATSAPP, MEDIA)),
    "somebody does not take an app back": ([SET_UP, STREAM], SET_UP),
    "chat does not take a call back": ([SET_UP, CHAT], SET_UP),
    "a call after chat is a call": ([CHAT, SET_UP], SET_UP),
    "between equals the first stays": ([VOICE, ANOTHERS], VOICE),
    "another app's role does not grow mine": ([SET_UP, ANOTHERS], SET_UP),
    "the role grows from set-up over control to media": ([SET_UP, REPORTS, VOICE], VOICE),
    "a sign unsure of the same app shows the role": ([SET_UP, (UNSURE, WHATSAPP, MEDIA)], VOICE),
    "a sign unsure of the maker does not": ([SET_UP, (UNSURE, META, MEDIA)], SET_UP),
    "the role does not shrink": ([VOICE, SET_UP, REPORTS], VOICE),
    "control does not fall back to set-up": ([REPORTS, SET_UP], REPORTS),
    "a hint's role grows too": ([(UNSURE, RTC, SETUP), HINT], HINT),
    "a maker is better than somebody": ([STREAM, METAS], (CERTAIN, META, MEDIA)),
    "an app of the maker is better than the maker": ([METAS, SET_UP], SET_UP),
    "another maker's app cannot be said of it": ([METAS, VOICE_OF_SKYPE], METAS),
    "the maker does not take its app back": ([SET_UP, METAS], SET_UP),
    "the maker's media make the app's flow media": ([SET_UP, METAS_MEDIA], VOICE),
    "two apps of one maker: the first stays": ([SET_UP, MESSENGERS], SET_UP),
    "a hint of an app is better than one of nobody": ([HINT, MAYBE], MAYBE),
    "the chat of the app stays the first": ([INNOCENT, CHAT], INNOCENT),
    "a hint's role is not kept by a certain app": ([HINT, SET_UP], SET_UP),
}


def put(flow: np.void, given: Given, argument: int = 0, time: int = 7) -> bool:
    """Conclude from an evidence."""
    verdict, app, role = given
    return bool(apply_evidence(flow, METER, pack(app, 9, verdict, role, 80), argument, time))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_better_evidence_stays(name: str) -> None:
    order, expected = SCENARIOS[name]
    flow = np.zeros(1, FLOW)[0]
    for given in order:
        put(flow, given)
    assert (flow["verdict"], flow["app"], flow["role"]) == expected


def test_no_evidence_changes_nothing() -> None:
    flow = np.zeros(1, FLOW)[0]
    assert not apply_evidence(flow, METER, 0, 5, 9)
    assert flow.tobytes() == bytes(128)


def test_a_conclusion_writes_down_all_that_it_rests_on() -> None:
    flow = np.zeros(1, FLOW)[0]
    flow["payload_packets"] = 3
    assert put(flow, SET_UP, 0x4000, 12345)
    fields = ("confidence", "evidence", "argument", "verdict_packets", "verdict_time")
    assert [int(flow[name]) for name in fields] == [80, WHATSAPP << 8 | 9, 0x4000, 3, 12345]


def test_a_role_that_grows_keeps_evidence_and_time_of_the_verdict() -> None:
    flow = np.zeros(1, FLOW)[0]
    put(flow, SET_UP, 1, 100)
    assert put(flow, VOICE, 2, 200)
    assert (flow["verdict_time"], flow["argument"]) == (100, 1)


def test_the_count_of_packets_stops_at_its_fields_end() -> None:
    flow = np.zeros(1, FLOW)[0]
    flow["payload_packets"] = 100_000
    put(flow, VOICE)
    assert flow["verdict_packets"] == 65535


def test_ranks_are_in_the_order_that_is_promised() -> None:
    order = [
        (UNDECIDED, NONE),
        (NOT_CALL, NONE),
        (UNSURE, RTC),
        (UNSURE, WHATSAPP),
        (CERTAIN, RTC),
        (CERTAIN, META),
        (CERTAIN, WHATSAPP),
    ]
    assert [rank(*each) for each in order] == [0, 1, 2, 3, 4, 5, 6]
    roles = (OTHER, MESSAGING, SETUP, CONTROL, MEDIA)
    assert [role_rank(role) for role in roles] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "packets", "final"),
    [
        (NOTHING, 10_000, False),
        (INNOCENT, 1, True),
        (CHAT, 1, True),
        (HINT, NAMELESS_PATIENCE - 1, False),
        (HINT, NAMELESS_PATIENCE, True),
        (STREAM, NAMELESS_PATIENCE - 1, False),
        (STREAM, NAMELESS_PATIENCE, True),
        (SOMEBODYS, PATIENCE - 1, False),
        (SET_UP, PATIENCE - 1, False),
        (SET_UP, PATIENCE, True),
        (VOICE, 1, True),
        ((NOT_CALL, SKYPE, MESSAGING), NAMELESS_PATIENCE - 1, False),
        ((NOT_CALL, SKYPE, MESSAGING), NAMELESS_PATIENCE, True),
    ],
)
def test_a_flow_is_final_when_no_later_packet_could_change_it(
    given: Given, packets: int, final: bool
) -> None:
    flow = np.zeros(1, FLOW)[0]
    put(flow, given)
    flow["payload_packets"] = packets
    assert bool(is_final(flow)) is final


def test_settling_keeps_the_other_bits_of_the_state() -> None:
    flow = np.zeros(1, FLOW)[0]
    flow["state"] = 0x40
    settle_flow(flow)
    assert flow["state"] == 0x40 | SETTLED


def test_compiled_code_knows_the_maker_of_every_app() -> None:
    assert [int(maker_of(app)) for app in range(len(APPS))] == list(MAKER_OF)
