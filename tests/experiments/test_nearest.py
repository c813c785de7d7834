# SPDX-License-Identifier: BSD-3-Clause
"""The nearest known word, or the honest list where nothing is near."""

from __future__ import annotations

from midcall.suggestions import hint, nearest


def test_a_letter_left_out_or_another_case_finds_the_word() -> None:
    assert nearest("delay_s", ["delay_ms", "loss"]) == "delay_ms"
    assert nearest("WHATSAPP", ["whatsapp", "viber"]) == "whatsapp"


def test_nothing_near_gives_the_list_of_what_is_known() -> None:
    assert nearest("zzz", ["whatsapp", "viber"]) is None
    assert hint("zzz", ["whatsapp", "viber"]) == "known: viber, whatsapp"
    assert hint("zzz", []) == "none is known"
