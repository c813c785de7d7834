# SPDX-License-Identifier: BSD-3-Clause
"""Rules of Suricata, nftables and iptables as rules of the policy language.

A rule is translated whole, or it is left out with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.truth.strict_toml import block, toml
from midcall.errors import TestbedError
from midcall.testbed.engines.import_parts import (
    INSERTED,
    LINE,
    MARKS,
    ORDER,
    Found,
    Untranslatable,
)
from midcall.testbed.engines.iptables_import import iptables
from midcall.testbed.engines.nftables_import import nftables
from midcall.testbed.engines.suricata_import import suricata

#: What reads an engine's lines: a function of a line's number and text.
READERS: dict[str, Callable[[Sequence[str]], Callable[[int, str], Found]]] = {
    "suricata": suricata, "nftables": nftables, "iptables": iptables,
}  # fmt: skip
#: The words of a rule that lets packets pass.
ACCEPTS = re.compile(r"\b(accept|ACCEPT)\b|^pass\b")


def joined(lines: Sequence[str]) -> list[str]:
    """Return lines of which each one that goes on in the next holds both; the next is then empty.

    A line goes on behind a backslash, and within braces that it opens, unless it begins a block.
    A shell's command `nft ...` stands without its program and quotes.
    """
    out: list[str] = []
    begin, open_braces = 0, 0
    for number, line in enumerate(lines):
        text = unquoted(line.strip())
        out.append("" if begin < number else text.removesuffix("\\").rstrip())
        if begin < number:
            out[begin] = f"{out[begin]} {text.removesuffix(chr(92)).strip()}"
        if begin == number and (BLOCK.match(text) or text.startswith("#")):
            begin = number + 1
            continue
        open_braces += text.count("{") - text.count("}")
        if open_braces <= 0 and not text.endswith("\\"):
            begin, open_braces = number + 1, 0
    return out


#: A shell's command with a rule of nftables.
NFT_COMMAND = re.compile(r"(?:sudo )?(?:\S*/)?nft (?P<quote>['\"]?)(?P<words>[a-z].*)(?P=quote)$")


def unquoted(line: str) -> str:
    """Return the words of a shell's command `nft ...` as a file of nftables has them."""
    hit = NFT_COMMAND.match(line)
    return hit["words"].replace("\\;", ";").replace("'", "") if hit else line


#: A line of nftables that begins or ends a block of lines.
BLOCK = re.compile(
    r"(?:add )?(table|chain|set|map|counter|quota|limit|flowtable)\b[^{]*\{[^}]*$|\}"
)


class LeftOut(NamedTuple):
    """A line that cannot be translated, and why."""

    line: int
    text: str
    reason: str


class Imported(NamedTuple):
    """The rules of a file: name -> keys of the policy language, and the lines left out."""

    file: str
    engine: str
    rules: dict[str, dict[str, Any]]
    left_out: list[LeftOut]


def imported(path: Path, engine: str) -> Imported:
    """Return the rules of a file; raises TestbedError for an unknown engine or unreadable file."""
    if engine not in READERS:
        raise TestbedError(f"engine {engine!r}: expected one of {', '.join(READERS)}")
    try:
        lines = joined(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise TestbedError(f"{path}: cannot be read ({error})") from None
    read = READERS[engine](lines)
    found: Found = []
    left_out: list[LeftOut] = []
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        try:
            rules = [{LINE: number, **rule} for rule in read(number, line)]
        except Untranslatable as problem:
            lets_pass = ACCEPTS.search(line) and not str(problem).startswith("chain ")
            accepts = "; rules below it may meet what it accepts" if lets_pass else ""
            left_out.append(LeftOut(number, line, f"{problem}{accepts}"))
            continue
        at = 0 if any(rule.get(INSERTED) for rule in rules) else len(found)
        found[at:at] = rules
    found.sort(key=lambda rule: rule.get(ORDER, 0))
    return Imported(path.name, engine, named(found), left_out)


def named(found: Found) -> dict[str, dict[str, Any]]:
    """Return rules by their names: "line-" and the number, "-1" and so on behind it for several."""
    several = Counter(rule[LINE] for rule in found)
    seen, out = Counter[int](), {}
    for rule in found:
        number = rule[LINE]
        seen[number] += 1
        name = f"line-{number}-{seen[number]}" if several[number] > 1 else f"line-{number}"
        out[name] = {key: value for key, value in rule.items() if key not in MARKS}
    return out


def write(path: Path, found: Imported) -> None:
    """Write the rules as an operator's file with one hypothesis; raises TestbedError."""
    if path.exists():
        raise TestbedError(f"{path}: exists already; give another file")
    identity = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "imported"
    parts = [
        f"id = {toml(identity)}\ntitle = {toml(f'Rules of {found.engine}, imported')}\n"
        'country = "ZZ"\n',
        '[[period]]\naccess = ["3g", "4g", "adsl", "fibre", "wifi"]\nfrom = 2000-01-01\n'
        f'grade = "D"\nsource = {toml(found.file)}\n',
        block(
            "hypothesis",
            {
                "id": "imported",
                "title": f"Rules of {found.file}",
                "description": f"Imported from {found.engine}, without the lines that cannot be "
                "translated.",
            },
        ),
    ]
    for name, rule in found.rules.items():
        source = f"{found.file}:{name.split('-')[1]}"
        evidence = {"grade": "D", "source": source, "hypothesis": True}
        parts.append(block("hypothesis.rule", {"name": name, **rule, **evidence}))
    try:
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise TestbedError(f"{path}: cannot be written: {error.strerror or error}") from None
