# SPDX-License-Identifier: BSD-3-Clause
"""Formatting of numbers in the report, each with its unit, its n and its interval.

An undefined number is written "n/a", with the reason, never as 0. Every function takes values of
the result files and returns plain text, which the template escapes.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence

from midcall.apps import WRITTEN

#: The functions of this file that a template may apply to a value.
FILTERS = (
    "app_name", "access_name", "operator_name", "verdict_name", "count", "percent",
    "span", "amount", "duration_ms", "duration_ns", "day", "listed",
)  # fmt: skip

APP_NAMES = {
    **WRITTEN,
    "meta": "WhatsApp or Messenger",
    "microsoft": "Skype or Teams",
    "rtc": "an unknown app",
}
ACCESS_NAMES = {"3g": "3G", "4g": "4G", "adsl": "ADSL", "fibre": "fibre", "wifi": "home Wi-Fi"}
OPERATOR_NAMES = {"maroc-telecom": "Maroc Telecom", "inwi": "Inwi", "meditel": "Meditel"}
#: Call verdicts in the words of a caller.
VERDICT_NAMES = {
    "OK": "gets through",
    "FALLBACK": "gets through another way",
    "DEGRADED": "gets through, badly",
    "SIGNALLING_BLOCKED": "no answer",
    "SETUP_BLOCKED": "never connects",
    "CONNECTED_NO_MEDIA": "connects, silent",
    "ONE_WAY": "heard one way",
    "CUT": "cut off",
    "INCONCLUSIVE": "cannot tell",
    "INVALID": "not testable",
}
OUTCOME_NAMES = {
    "right": "right",
    "other_call": "taken for another call",
    "unsure": "unsure",
    "missed": "missed",
}


def app_name(app: str | None) -> str:
    """Return the app's name as its users write it."""
    return APP_NAMES.get(app or "none", app or "no call")


def access_name(access: str) -> str:
    """Return the access network's name as its customers write it."""
    return ACCESS_NAMES.get(access, access)


def operator_name(operator: str) -> str:
    """Return the operator's name; an unknown id is only made readable."""
    if operator.startswith("blackbox:"):
        return f"black box: {operator.partition(':')[2]}"
    return OPERATOR_NAMES.get(operator, operator.replace("-", " ").title())


def verdict_name(verdict: str | None) -> str:
    """Return a call verdict in a caller's words."""
    if verdict is None:
        return "no verdict"
    return VERDICT_NAMES.get(verdict, verdict.replace("_", " ").lower())


def count(value: float | None) -> str:
    """Return a whole number with thousands separated, "n/a" for None."""
    return "n/a" if value is None else f"{round(value):,}"


def plural(n: int, noun: str, many: str | None = None) -> str:
    """Return "1 call" or "3 calls"."""
    return f"{count(n)} {noun if n == 1 else many or noun + 's'}"


def percent(share: float | None) -> str:
    """Return a share (0..1) in per cent with digits that depend on its size."""
    if share is None:
        return "n/a"
    value = 100 * share
    if value in (0, 100) or value >= 10:
        return f"{value:.0f} %" if abs(value - round(value)) < 0.05 else f"{value:.1f} %"
    return f"{value:.1f} %" if value >= 1 else f"{_significant(value)} %"


def _significant(value: float) -> str:
    """Return a value below 1 with two significant digits and no exponent."""
    if value <= 0:
        return "0"
    return f"{value:.{max(1, 1 - math.floor(math.log10(value)))}f}"


def span(interval: Sequence[float] | None) -> str:
    """Return an interval of shares as "0.9 to 1.6 %", "" where there is none."""
    if interval is None:
        return ""
    low, high = (percent(bound) for bound in interval)
    return f"{low.removesuffix(' %')} to {high}"


def share(part: int | None, whole: int | None, what: str = "positives") -> str:
    """Return part / whole in per cent, "n/a (0 positives)" where it is undefined."""
    if not whole:
        return f"n/a (0 {what})"
    return percent((part or 0) / whole)


def amount(value: float | None, unit: str = "") -> str:
    """Return a large number with three significant digits and an SI letter: "4.93 M"."""
    if value is None:
        return "n/a"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def duration_ms(ms: float | None) -> str:
    """Return a virtual-time duration given in milliseconds with a unit that fits it."""
    if ms is None:
        return "n/a"
    if 0 < ms < 1:
        return f"{ms:.2f} ms"
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"


def duration_ns(ns: float | None) -> str:
    """Return a wall-time duration given in nanoseconds with a unit that fits it."""
    if ns is None:
        return "n/a"
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= limit:
            return f"{ns / limit:.3g} {unit}"
    return f"{ns:.0f} ns"


def day(date: object) -> str:
    """Return a date as "20 Jan 2016"; any other value is returned as text."""
    try:
        parsed = datetime.date.fromisoformat(str(date)[:10])
    except ValueError:
        return str(date)
    return f"{parsed.day} {parsed:%b %Y}"


def days(dates: Sequence[str]) -> str:
    """Return dates as "20 Jan and 15 Mar 2016": a year common to all is written once."""
    written = [day(date) for date in dates]
    years = {words[-5:] for words in written}
    if len(years) == 1 and len(written) > 1:
        return listed([*(words.removesuffix(words[-5:]) for words in written[:-1]), written[-1]])
    return listed(written)


def listed(words: Iterable[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    parts = list(words)
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
