# SPDX-License-Identifier: BSD-3-Clause
"""The prober: how often it names a drawn rule, and one case with what was asked and learned."""

from __future__ import annotations

from typing import Any

from midcall.experiments.measure.formatting import N_, gettext
from midcall.experiments.results.reader import Findings

#: Figures of the benchmark, in the order of the table.
FIGURES = {
    "mechanism": N_("Mechanism right, one rule"),
    "mechanism_of_seen": N_("Mechanism right where the call shows an effect"),
    "mechanism_two": N_("Mechanism right, two rules"),
    "direction": N_("Direction right"),
    "coverage": N_("Intervals of 95 percent that cover the truth"),
    "within_tenth": N_("Numbers within a tenth of the truth"),
    "false_blocked": N_("Clean lines called blocked"),
}
#: Hypotheses shown per step, and steps.
HYPOTHESES, STEPS = 3, 12


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the spec draws no policies."""
    about: Any = run.at("probe")
    if not about:
        return None
    figures = about["figures"]
    shown = about["shown"]
    return {
        "probed": {
            "rates": [
                {"words": gettext(words), **figures[key]}
                for key, words in FIGURES.items() if figures[key]["share"] is not None
            ],
            "probes": figures["median_probes"],
            "seconds": figures["median_line_s"],
            "calibration": figures["calibration_error"],
            "case": None if shown is None else case(shown),
        }
    }  # fmt: skip


def case(shown: Any) -> dict[str, object]:
    """Return one case: its truth, its answer, what was asked, and how the hypotheses fell."""
    answer = shown["answer"]
    return {
        "truth": shown["truth"],
        "rule": answer["rule_toml"],
        "asked": [
            {"question": one["question"], "copies": one["copies"], "seconds": one["seconds"],
             "answer": one["answer"]}
            for one in shown["record"]
        ],
        "beliefs": [
            [{"words": words, "share": share}
             for words, share in list(step.items())[:HYPOTHESES]]
            for step in shown["beliefs"][:STEPS]
        ],
    }  # fmt: skip
