# SPDX-License-Identifier: BSD-3-Clause
"""Syntax of values in the policy language: names, ports, prefixes and ranges."""

from __future__ import annotations

import ipaddress
import re

from midcall.captures.truth.strict_toml import hint

NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?")
PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")
HELLO = re.compile(r"[0-3][0-9a-f]{15}")
HOURS = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
#: Seconds of a day.
DAY = 86_400
SPAN = re.compile(r"(\d+(?:\.\d+)?)?-(\d+(?:\.\d+)?)?")


def known_words(words: list[str], choices: tuple[str, ...]) -> list[str]:
    """Return the words; raises ValueError that names the closest choice to an unknown word."""
    for word in words:
        if word not in choices:
            expected = ", ".join(choices)
            raise ValueError(
                f"got {word!r}, expected some of {expected}{hint(word, list(choices))}"
            )
    return words


def repeated(words: list[str]) -> list[str]:
    """Return the words that occur in a list more than once, sorted."""
    return sorted({word for at, word in enumerate(words) if word in words[:at]})


def port_range(word: int | str) -> tuple[int, int]:
    """Return the first and last port of `5060` or `"3478-3481"`; raises ValueError."""
    parsed = PORTS.fullmatch(f"{word}-{word}" if isinstance(word, int) else word)
    if parsed is None or not 0 < int(parsed[1]) <= int(parsed[2]) < 65536:
        raise ValueError(f'got {word!r}, expected a port (5060) or a range ("3478-3481")')
    return int(parsed[1]), int(parsed[2])


#: Code points of Differentiated Services by name (RFC 2474, 2597, 3246, 5865, 8622).
CODE_POINTS = {
    "ef": 46, "va": 44, "le": 1,
    **{f"cs{number}": 8 * number for number in range(8)},
    **{f"af{row}{drop}": 8 * row + 2 * drop for row in range(1, 5) for drop in range(1, 4)},
}  # fmt: skip


def code_point(word: int | str) -> int:
    """Return a Differentiated Services code point, 0 to 63; raises ValueError."""
    number = CODE_POINTS.get(word, -1) if isinstance(word, str) else word
    if not 0 <= number <= 63:
        names = list(CODE_POINTS)
        close = hint(word, names) if isinstance(word, str) else ""
        raise ValueError(
            f"got {word!r}, expected a code point from 0 to 63, or ef, va, le, cs0 to cs7, af11 "
            f"to af43{close}"
        )
    return number


def prefix(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return an address prefix; raises ValueError."""
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        raise ValueError(
            f"got {word!r}, expected an address prefix such as 198.18.0.0/15 ({error})"
        ) from None


def host_address(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; raises ValueError."""
    try:
        return ipaddress.ip_address(word)
    except ValueError:
        raise ValueError(f"got {word!r}, expected an address, or nxdomain") from None


def hours(word: str) -> tuple[int, int]:
    """Return begin and end of a range of times of day, in seconds; raises ValueError."""
    parsed = HOURS.fullmatch(word)
    if parsed is None:
        raise ValueError(f'got {word!r}, expected times of day: "18:00-24:00"')
    begin, end = (int(parsed[at]) * 3600 + int(parsed[at + 1]) * 60 for at in (1, 3))
    if begin in (end, DAY) or max(begin, end) > DAY:
        raise ValueError(f'got {word!r}, expected two times of day: "18:00-24:00"')
    return begin, end


def within(second: int, begin: int, end: int) -> bool:
    """Tell whether a second of the day lies in a range, its end excluded, also over midnight."""
    return begin <= second < end if begin < end else second >= begin or second < end


def span(word: float | str) -> tuple[float, float]:
    """Return both ends of a range (infinity for an open one); raises ValueError."""
    if isinstance(word, int | float):
        return float(word), float(word)
    parsed = SPAN.fullmatch(word)
    if parsed is None or not (parsed[1] or parsed[2]):
        raise ValueError(f'got {word!r}, expected a range: "200-", "-200", "100-200" or 200')
    low, high = float(parsed[1] or 0), float(parsed[2] or "inf")
    if high < low:
        raise ValueError(f"got {word!r}: the range ends before it begins")
    return low, high
