# SPDX-License-Identifier: BSD-3-Clause
"""The nearest known word, or the honest list where nothing is near."""

from __future__ import annotations

from midcall.suggestions import LISTED, closest, hint, nearest


def test_a_letter_left_out_or_another_case_finds_the_word() -> None:
    assert nearest("delay_s", ["delay_ms", "loss"]) == "delay_ms"
    assert nearest("WHATSAPP", ["whatsapp", "viber"]) == "whatsapp"


def test_nothing_near_gives_the_list_of_what_is_known() -> None:
    assert nearest("zzz", ["whatsapp", "viber"]) is None
    assert hint("zzz", ["whatsapp", "viber"]) == "known: viber, whatsapp"
    assert hint("zzz", []) == "none is known"


def test_several_close_words_come_in_the_order_of_their_likeness() -> None:
    known = ["telegram", "teams", "instagram", "viber"]
    assert closest("telgram", known)[0] == "telegram"
    assert "viber" not in closest("telgram", known)
    assert closest("telgram", known, 1) == ["telegram"]


def test_a_long_list_is_not_printed() -> None:
    names = [f"name-{number}" for number in range(LISTED + 1)]
    assert hint("zzz", names) == f"none of {len(names)} known names is close to it"
    assert hint("name-4", names) == "did you mean name-4?"
    assert hint("zzz", names[:LISTED]).startswith("known: name-0, ")
