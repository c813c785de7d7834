# SPDX-License-Identifier: BSD-3-Clause
"""The reference page is what its sources say today."""

from __future__ import annotations

from midcall.experiments.tools.policy_reference import PAGE, page
from midcall.testbed.policy.language import ACTS, After, Match, Rule


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make reference and read the diff"


def test_every_key_and_act_has_a_section_and_says_what_it_means() -> None:
    text = page()
    for model in (Match, After, Rule):
        for name, field in model.model_fields.items():
            if field.exclude:
                continue
            assert f"### `{field.alias or name}`\n" in text
            assert field.description
    assert all(f"### `{act}`" in text for act in ACTS)
