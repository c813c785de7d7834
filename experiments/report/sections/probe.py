# SPDX-License-Identifier: BSD-3-Clause
"""The prober: how often it names a drawn rule, single searches with what was asked and learned, the
incidents with the statements of users, and live searches next to virtual ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from midcall.experiments.measure.formatting import N_, gettext, percent, spoken
from midcall.experiments.report.charts import SERIES, Chart
from midcall.experiments.report.probe_charts import WeightBar, weights
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
#: What became of a call, and verdicts of the prober.
WORDS = {
    "works": N_("works"),
    "degraded": N_("degraded"),
    "fails": N_("fails"),
    "cannot tell": N_("cannot tell"),
    "blocked": N_("blocked"),
    "clean": N_("clean"),
    "agree": N_("agree"),
    "disagree": N_("disagree"),
}
#: Characters of a hypothesis in a legend.
LONGEST = 76
THREAD = re.compile(r"^https://github\.com/([^/]+/[^/]+)/(?:issues|pull)/(\d+)$")


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the spec asks for no probes."""
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
            "case": None if shown is None else case(shown, "probe-case"),
            "incidents": [
                case(one, f"probe-incident-{number}")
                for number, one in enumerate(about.get("incidents") or [], 1)
            ],
            "statements": statements(run),
            "not_played": about.get("not_played") or [],
            "pairs": pairs(run),
            "lacks": about.get("live_lacks") or [],
        }
    }  # fmt: skip


def worded(word: str) -> str:
    """Return a word of WORDS in the page's language; any other as it is."""
    return gettext(WORDS.get(word, word))


# ---- one search


def case(shown: Any, name: str) -> dict[str, object]:
    """Return one search: its truth, its answer, what was asked, and how the hypotheses fell.

    name: of its chart.
    """
    answer = shown["answer"]
    bars = list(bars_of(shown["beliefs"], len(shown["record"])))
    return {
        "name": shown["name"],
        "truth": shown["truth"],
        "right": shown.get("right"),
        "rule": answer["rule_toml"],
        "verdict": worded(answer["verdict"]),
        "answer": answer_words(answer),
        "probability": answer["probability"],
        "probes": answer["probes"],
        "seconds": answer["line_s"],
        "asked": asked(shown),
        "chart": drawn(name, bars) if bars else None,
    }


def answer_words(answer: Any) -> str:
    """Return an answer in a line, "" where no rule is named."""
    if answer["act"]["name"] is None:
        return ""
    numbers = [
        f"{key} {one['value']:g} ({one['low']:g} to {one['high']:g})"
        for key, one in answer["act"]["parameters"].items()
        if isinstance(one, dict) and one["value"] is not None
    ]
    act = " ".join([answer["act"]["name"], *([f"[{', '.join(numbers)}]"] if numbers else [])])
    return f"{act} of the {answer['scope']}, {answer['direction']}, at {answer['trigger']['words']}"


def asked(shown: Any) -> list[dict[str, object]]:
    """Return each probe of a search with the likeliest rule after it, "" where none was weighed."""
    after = dict(steps(shown["beliefs"]))
    result: list[dict[str, object]] = []
    likeliest, share = "", 0.0
    for number, one in enumerate(shown["record"], 1):
        if after.get(number):
            likeliest, share = max(after[number].items(), key=lambda pair: pair[1])
        result.append(
            {"number": number, "question": one["question"], "copies": one["copies"],
             "packets": one["packets"], "seconds": one["seconds"], "answer": one["answer"],
             "likeliest": likeliest, "share": share}
        )  # fmt: skip
    return result


def steps(beliefs: Sequence[Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the number of probes and the weights after them, the last ones of each number."""
    yield from {one["probes"]: one["weights"] for one in beliefs}.items()


def bars_of(beliefs: Sequence[Any], probes: int) -> Iterator[WeightBar]:
    """Yield the parts of each probe's bar: the likeliest at the end, those that came nearest to it
    on the way, and all others together."""
    after = dict(steps(beliefs))
    if not after:
        return
    last = after[max(after)]
    peak: dict[str, float] = {}
    for shares in after.values():
        for words, share in shares.items():
            peak[words] = max(peak.get(words, 0.0), share)
    best = max(last, key=lambda words: last[words]) if last else ""
    order = sorted(peak, key=lambda words: (words != best, -peak[words]))[: len(SERIES) - 1]
    labels = {words: label(words, number) for number, words in enumerate(order)}
    now: dict[str, float] = {}
    for number in range(min(after), min(max(after), probes) + 1):
        now = after.get(number, now)
        shares = {words: now.get(words, 0.0) for words in order}
        rest = max(1.0 - sum(shares.values()), 0.0)
        parts = [*((labels[words], share) for words, share in shares.items()),
                 (gettext("any other"), rest)]  # fmt: skip
        for rank, (words, share) in enumerate(parts):
            tip = gettext("after %(number)s probes: %(share)s, %(rule)s") % {
                "number": number, "share": percent(share), "rule": words,
            }  # fmt: skip
            yield {"probe": number, "hypothesis": words, "weight": share, "rank": rank, "tip": tip}


def label(words: str, number: int) -> str:
    """Return a hypothesis for a legend; its letter keeps apart those that are cut."""
    short = words if len(words) <= LONGEST else f"{words[: LONGEST - 2]} …"
    named = f"{'ABCDEFGH'[number]}: {short}"
    return f"\u2066{named}\u2069" if spoken().rtl else named


def drawn(name: str, bars: Sequence[WeightBar]) -> Chart:
    """Return the chart of a search with its text alternative."""
    end = [one for one in bars if one["probe"] == bars[-1]["probe"]]
    best = max(end, key=lambda one: one["weight"])
    text = gettext("Weights of the hypotheses after each probe. At the end: %(words)s.") % {
        "words": f"{percent(best['weight'])}, {best['hypothesis']}"
    }
    return weights(name, bars, text)


# ---- incidents and live searches


def statements(run: Findings) -> dict[str, object] | None:
    """Return the statements of users and how many the hypotheses agree with, None for none."""
    rows = run["workarounds"]
    if not rows:
        return None
    notes = list(dict.fromkeys(row["stands_in"] for row in rows if row["stands_in"]))
    return {
        "notes": notes,
        "rows": [
            {**row, "thread": thread(row["source"]), "said": worded(row["says"]),
             "here": worded(row["result"]),
             "plain": worded(row["unchanged"]),
             "revived": row["result"] == "works" and row["unchanged"] != "works",
             "note": notes.index(row["stands_in"]) + 1 if row["stands_in"] else None}
            for row in rows
        ],
        "agree": sum(row["agrees"] for row in rows),
        "n": len(rows),
    }  # fmt: skip


def thread(source: str) -> list[str]:
    """Return a thread by its short name, as owner/name#number, in parts between which a line may
    end."""
    found = THREAD.match(source)
    name = f"{found[1]}#{found[2]}" if found else source.removeprefix("https://")
    owner, slash, rest = name.partition("/")
    return [owner + slash, rest]


def pairs(run: Findings) -> dict[str, object] | None:
    """Return the searches made in virtual time and live, None without any."""
    rows = run["probe_pairs"]
    if not rows:
        return None
    judged = [row for row in rows if row["agreement"] != "cannot tell"]
    return {
        "rows": [
            {**row, "words": worded(row["agreement"]),
             "verdicts": [worded(row[key]) for key in ("virtual", "live")]}
            for row in rows
        ],
        "agree": sum(row["agreement"] == "agree" for row in judged),
        "judged": len(judged),
        "n": len(rows),
        "false": sum(row["rule"] == "no rule" and row["live"] in ("blocked", "degraded")
                     for row in rows),
        "clean": sum(row["rule"] == "no rule" for row in rows),
    }  # fmt: skip
