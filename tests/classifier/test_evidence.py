# SPDX-License-Identifier: BSD-3-Clause
"""Evidence: one number, one meaning, one sentence that a person can read."""

from __future__ import annotations

import pytest

import midcall.classifier.path.dispatch  # noqa: F401  (defines all evidence)
from midcall.classifier.state.evidence import BASES, SENTENCES, SHARED, evidence, pack, sentence
from midcall.classifier.state.verdicts import (
    APPS,
    CERTAIN,
    MEDIA,
    META,
    NOT_CALL,
    OTHER,
    ROLES,
    RTC,
    VERDICTS,
    WHATSAPP,
)


@pytest.fixture
def sentences() -> object:
    """Let a test define evidence that is gone afterwards."""
    before, bases = dict(SENTENCES), dict(BASES)
    yield SENTENCES
    for table, kept in ((SENTENCES, before), (BASES, bases)):
        table.clear()
        table.update(kept)


def test_what_is_packed_comes_apart_again() -> None:
    evidence = pack(WHATSAPP, 5, CERTAIN, MEDIA, 99)
    parts = (
        evidence >> 24,
        (evidence >> 20) & 15,
        (evidence >> 16) & 15,
        (evidence >> 8) & 0xFF,
        evidence & 0xFF,
    )
    assert parts == (99, CERTAIN, MEDIA, WHATSAPP, 5)


def test_the_longest_vocabularies_fit_their_bits() -> None:
    assert len(VERDICTS) <= 16
    assert len(ROLES) <= 16
    assert len(APPS) <= 256
    assert pack(len(APPS) - 1, 255, 15, 15, 100) < 2**31


@pytest.mark.usefixtures("sentences")
def test_a_number_that_is_taken_is_refused_with_its_app() -> None:
    evidence(WHATSAPP, 199, CERTAIN, MEDIA, "one thing")
    with pytest.raises(ValueError, match=r"^evidence 199 of whatsapp is defined twice$"):
        evidence(WHATSAPP, 199, CERTAIN, MEDIA, "another thing")


def test_every_evidence_has_a_number_in_range_and_a_readable_sentence() -> None:
    assert len(SENTENCES) > 60
    for key, text in SENTENCES.items():
        app, number = key >> 8, key & 0xFF
        assert 0 <= app < len(APPS)
        assert 1 <= number <= 255
        assert (number > SHARED) <= (app == 0), f"{text}: shared numbers belong to no app"
        assert 3 <= len(text) <= 90, text
        assert text == text.strip(" .")
        assert text.count("{") == text.count("{x}") + text.count("{n}"), text


def test_no_two_evidences_of_an_app_read_alike() -> None:
    sentences = [(key >> 8, text) for key, text in SENTENCES.items()]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize(
    ("key", "argument", "packets", "expected"),
    [
        (META << 8 | 2, 0x0801, 2, "STUN type 0x0801, packet 2"),
        (META << 8 | 2, 0x0801, 0, "STUN type 0x0801"),
        (RTC << 8 | 5, 111, 4, "RTP stream, payload type 111, packet 4"),
        (WHATSAPP << 8 | SHARED + 1, 0, 1, "same socket as a flow of this app's call, packet 1"),
        (1, 6, 0, "no sign of a call in 6 payloads"),
        (0, 0, 0, ""),
        (0, 5, 9, ""),
    ],
)
def test_a_sentence_says_what_and_at_which_packet(
    key: int, argument: int, packets: int, expected: str
) -> None:
    assert sentence(key, argument, packets) == expected


def test_an_evidence_that_is_no_call_names_no_role_of_a_call() -> None:
    from midcall.classifier.apps import messenger, skype, viber, whatsapp

    chats = (messenger.CHAT, skype.PRESENCE, viber.CHAT, whatsapp.CHAT_WA, whatsapp.CHAT_ED)
    for chat in chats:
        assert (chat >> 20) & 15 == NOT_CALL
        assert ROLES[(chat >> 16) & 15] in ("messaging", ROLES[OTHER])
