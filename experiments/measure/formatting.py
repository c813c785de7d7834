# SPDX-License-Identifier: BSD-3-Clause
"""Formatting of numbers in the report, each with its unit, its n and its interval.

An undefined number is written "n/a", with the reason, never as 0. Every function takes values of
the result files and returns plain text, which the template escapes. Words, numbers and dates are
those of the language that `speaking` has set, English outside of it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from gettext import NullTranslations
from typing import NamedTuple

from babel import Locale
from babel.dates import format_date, format_skeleton
from babel.lists import format_list
from babel.numbers import format_decimal, format_percent

from midcall.apps import WRITTEN

#: The functions of this file that a template may apply to a value.
FILTERS = (
    "app_name", "access_name", "operator_name", "verdict_name", "count", "percent",
    "span", "amount", "duration_ms", "duration_ns", "day", "listed", "decimal", "brief",
    "role_name",
)  # fmt: skip


class Language(NamedTuple):
    """A language: its code (ISO 639-1), whether it is written right to left, its messages."""

    code: str
    rtl: bool
    messages: NullTranslations

    @property
    def english(self) -> bool:
        """Return whether words and numbers are those of the code."""
        return self.code == "en"


ENGLISH = Language("en", False, NullTranslations())
_LANGUAGE: ContextVar[Language] = ContextVar("language", default=ENGLISH)
_NO_NAMES: Mapping[str, str] = {}
_NAMES: ContextVar[Mapping[str, str]] = ContextVar("names", default=_NO_NAMES)


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Have everything in the block written in a language."""
    before = _LANGUAGE.set(language)
    try:
        yield
    finally:
        _LANGUAGE.reset(before)


@contextmanager
def naming_operators(names: Mapping[str, str]) -> Iterator[None]:
    """Have operators named by `names` (id -> name) in the block."""
    before = _NAMES.set(names)
    try:
        yield
    finally:
        _NAMES.reset(before)


def spoken() -> Language:
    """Return the language in which this file writes now."""
    return _LANGUAGE.get()


def gettext(message: str) -> str:
    """Return a message in the language."""
    return spoken().messages.gettext(message) if message else ""


def ngettext(one: str, many: str, n: int) -> str:
    """Return the form of a message that goes with a number."""
    return spoken().messages.ngettext(one, many, n)


def N_(message: str) -> str:  # the name by which gettext's tools know it
    """Mark a message that is translated where it is shown; return it as it is."""
    return message


def counted(one: str, many: str, n: int) -> str:
    """Return a message about a number, which stands in it as %(num)s."""
    return ngettext(one, many, n) % {"num": count(n)}


APP_NAMES = {
    **WRITTEN,
    "meta": N_("WhatsApp or Messenger"),
    "microsoft": N_("Skype or Teams"),
    "rtc": N_("an unknown app"),
    "other-rtc": N_("other calls"),
}
NO_CALL = N_("no call")
ACCESS_NAMES = {"3g": "3G", "4g": "4G", "adsl": "ADSL", "fibre": N_("fibre"),
                "wifi": N_("home Wi-Fi")}  # fmt: skip
OPERATOR_NAMES = {"maroc-telecom": "Maroc Telecom", "inwi": "Inwi", "meditel": "Meditel"}
#: Call verdicts in the words of a caller.
VERDICT_NAMES = {
    "OK": N_("gets through"),
    "FALLBACK": N_("gets through another way"),
    "DEGRADED": N_("gets through, badly"),
    "SIGNALLING_BLOCKED": N_("no answer"),
    "SETUP_BLOCKED": N_("never connects"),
    "CONNECTED_NO_MEDIA": N_("connects, silent"),
    "ONE_WAY": N_("heard one way"),
    "CUT": N_("cut off"),
    "INCONCLUSIVE": N_("cannot tell"),
    "INVALID": N_("not testable"),
}
OUTCOME_NAMES = {
    "right": N_("right"),
    "other_call": N_("taken for another call"),
    "unsure": N_("unsure"),
    "missed": N_("missed"),
}
#: Roles of flows.
ROLE_NAMES = {
    "media": N_("media"),
    "setup": N_("set-up"),
    "control": N_("control"),
    "messaging": N_("messages"),
    "other": N_("other"),
    "unknown": N_("unknown"),
}
#: Kinds of innocent flows, as experiments.measure.metrics names them.
QUIET_KINDS = (N_("innocent captures"), N_("messaging flows"), N_("other flows of call captures"))


def app_name(app: str | None) -> str:
    """Return the app's name as its users write it."""
    return gettext(APP_NAMES.get(app or "none", app or NO_CALL))


def access_name(access: str) -> str:
    """Return the access network's name as its customers write it."""
    return gettext(ACCESS_NAMES.get(access, access))


def operator_name(operator: str) -> str:
    """Return the operator's name, see `naming_operators`; an unknown id is only made readable."""
    if operator.startswith("blackbox:"):
        return gettext("black box: %(name)s") % {"name": operator.partition(":")[2]}
    known = _NAMES.get().get(operator) or OPERATOR_NAMES.get(operator)
    return known or operator.replace("-", " ").title()


def role_name(role: str | None) -> str:
    """Return the role of a flow in words."""
    return gettext(ROLE_NAMES.get(role or "", role or ""))


def verdict_name(verdict: str | None) -> str:
    """Return a call verdict in a caller's words."""
    if verdict is None:
        return gettext("no verdict")
    return gettext(VERDICT_NAMES.get(verdict, verdict.replace("_", " ").lower()))


def count(value: float | None) -> str:
    """Return a whole number with thousands separated, "n/a" for None."""
    if value is None:
        return gettext("n/a")
    return f"{round(value):,}" if spoken().english else written(f"{round(value)}")


def written(digits: str) -> str:
    """Return an English number without separators ("1234.50") as the language writes it."""
    language = spoken()
    if language.english or not digits.replace(".", "").removeprefix("-").isdigit():
        return digits
    _, _, fraction = digits.partition(".")
    shape = f"#,##0.{'0' * len(fraction)}" if fraction else "#,##0"
    return str(format_decimal(Decimal(digits), format=shape, locale=language.code))


def measured(digits: str, unit: str) -> str:
    """Return a number with its unit, which stands after it also where one writes to the left."""
    words = f"{written(digits)} {unit}".rstrip()
    return f"\u2066{words}\u2069" if spoken().rtl else words


def of(part: object, whole: object) -> str:
    """Return "2 of 8"."""
    return gettext("%(part)s of %(whole)s") % {"part": part, "whole": whole}


def plural(n: int, noun: str, many: str | None = None) -> str:
    """Return "1 call" or "3 calls"."""
    return f"{count(n)} {noun if n == 1 else many or noun + 's'}"


def percent(share: float | None) -> str:
    """Return a share (0..1) in per cent with digits that depend on its size."""
    if share is None:
        return gettext("n/a")
    digits = _percent_digits(100 * share)
    language = spoken()
    if language.english:
        return f"{digits} %"
    _, _, fraction = digits.partition(".")
    pattern = Locale.parse(language.code).percent_formats[None].pattern
    shape = pattern.replace("#,##0", f"#,##0.{'0' * len(fraction)}" if fraction else "#,##0")
    return str(format_percent(Decimal(digits) / 100, format=shape, locale=language.code))


def _percent_digits(value: float) -> str:
    if value in (0, 100) or value >= 10:
        return f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"
    return f"{value:.1f}" if value >= 1 else _significant(value)


def _significant(value: float) -> str:
    """Return a value below 1 with two significant digits and no exponent."""
    if value <= 0:
        return "0"
    return f"{value:.{max(1, 1 - math.floor(math.log10(value)))}f}"


def span(interval: Sequence[float] | None) -> str:
    """Return an interval of shares as "0.9 to 1.6 %", "" where there is none."""
    if interval is None:
        return ""
    low, high = interval
    first = written(_percent_digits(100 * low))
    return gettext("%(low)s to %(high)s") % {"low": first, "high": percent(high)}


def share(part: int | None, whole: int | None, what: str = "positives") -> str:
    """Return part / whole in per cent, "n/a (0 positives)" where it is undefined."""
    if not whole:
        return f"{gettext('n/a')} (0 {what})"
    return percent((part or 0) / whole)


def brief(value: float | None) -> str:
    """Return a number with three significant digits."""
    return gettext("n/a") if value is None else written(f"{value:.3g}")


def decimal(value: float | None, digits: int) -> str:
    """Return a number with a number of digits behind the point."""
    return gettext("n/a") if value is None else written(f"{value:.{digits}f}")


def amount(value: float | None, unit: str = "") -> str:
    """Return a large number with three significant digits and an SI letter: "4.93 M"."""
    if value is None:
        return gettext("n/a")
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return measured(f"{value / limit:.3g}", f"{letter}{unit}")
    return measured(f"{value:.3g}", unit)


def duration_ms(ms: float | None) -> str:
    """Return a virtual-time duration given in milliseconds with a unit that fits it."""
    if ms is None:
        return gettext("n/a")
    if 0 < ms < 1:
        return measured(f"{ms:.2f}", "ms")
    return measured(f"{ms:.0f}", "ms") if ms < 10_000 else measured(f"{ms / 1000:.1f}", "s")


def duration_ns(ns: float | None) -> str:
    """Return a wall-time duration given in nanoseconds with a unit that fits it."""
    if ns is None:
        return gettext("n/a")
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= limit:
            return measured(f"{ns / limit:.3g}", unit)
    return measured(f"{ns:.0f}", "ns")


def day(date: object) -> str:
    """Return a date as "20 Jan 2016"; any other value is returned as text."""
    try:
        parsed = datetime.date.fromisoformat(str(date)[:10])
    except ValueError:
        return str(date)
    language = spoken()
    if language.english:
        return f"{parsed.day} {parsed:%b %Y}"
    return str(format_date(parsed, "d MMM y", locale=language.code))


def days(dates: Sequence[str]) -> str:
    """Return dates as "20 Jan and 15 Mar 2016": a year common to all is written once."""
    years = {str(date)[:4] for date in dates}
    if len(years) > 1 or len(dates) < 2:
        return listed(map(day, dates))
    return listed([*map(_day_of_year, dates[:-1]), day(dates[-1])])


def _day_of_year(date: str) -> str:
    language = spoken()
    if language.english:
        return day(date)[:-5]
    return str(format_skeleton("MMMd", datetime.date.fromisoformat(date), locale=language.code))


def listed(words: Iterable[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    parts = list(words)
    language = spoken()
    if not language.english:
        return str(format_list(parts, locale=language.code))
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
