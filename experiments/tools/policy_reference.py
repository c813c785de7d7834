# SPDX-License-Identifier: BSD-3-Clause
"""The reference page of the policy language, written from its models and its scenarios.

Every key is listed with its meaning as the model states it, and with the scenario that tests it as
its example. `make reference` writes the page; a test compares it with the sources.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from midcall.locations import ROOT, TEMPLATES
from midcall.testbed.conformance import coverage
from midcall.testbed.conformance.scenarios import SCENARIOS, Scenario
from midcall.testbed.policy.language import ACTS, BY_PACKET, PARAMETERS, After, Match, Rule

PAGE = ROOT / "docs" / "reference" / "policy.md"
#: The text before the keys.
INTRODUCTION = TEMPLATES / "policy.md"

FATES = {".": "not sent", "d": "delivered", "x": "dropped", "f": "answered", "l": "lost"}
SCOPES = "scope that a match affects from then on"
SEES = (
    'A key of the hypothesis: `sees` is `"up"` or `"down"` where routing takes the other '
    "direction of a flow past the box. What it does not see passes, and is neither counted nor "
    "read."
)
#: Scenes longer than this are shown without the fate of every packet.
LONG = 24


def page() -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION.read_text(encoding="utf-8"),
        "## Match\n\n" + doc(Match),
        *sections("match", Match),
        "## Acts",
        *acts(),
        "## Scopes",
        *examples_of("scope"),
        "## After\n\n" + doc(After),
        *sections("after", After),
        "## Other keys of a rule",
        *sections("rule", Rule),
        "## What the box cannot read",
        *examples_of("fail"),
        "## What the box sees\n\n" + SEES,
        *examples_of("sees"),
        "## What operators were seen to do, and what proves the lab's word for it",
        covered(),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def doc(model: type[BaseModel]) -> str:
    """Return the docstring of a model as one paragraph."""
    return " ".join(line.strip() for line in (model.__doc__ or "").strip().splitlines())


def sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield a section per key of a model."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if field.exclude:
            continue
        own = [one for one in SCENARIOS if one.key == f"{prefix}.{key}"]
        meaning = f"{field.description or ''}."
        yield f"### `{key}`\n\n{meaning[:1].upper()}{meaning[1:]} {form(field)}".strip()
        for one in own:
            yield example(one)


def form(field: FieldInfo) -> str:
    """Return in words the values of a key, and its default."""
    words = f"Takes {kind(field.annotation)}"
    if field.is_required():
        return f"{words}; must be given."
    default = field.get_default()
    if default in (None, [], "", 0, 0.0, False):
        return f"{words}."
    return (
        f"{words}; `{str(default).lower() if isinstance(default, bool) else default}` by default."
    )


def kind(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{word}"`' for word in inner)
    if origin is list:
        return f"a list of {plural(inner[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(kind(one) for one in inner if one is not type(None))
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return names.get(annotation, f"a {getattr(annotation, '__name__', 'value').lower()}")


def plural(annotation: Any) -> str:
    """Return a type in words, in the plural."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(plural(one) for one in get_args(annotation))
    words = kind(annotation)
    return words if words.startswith("`") else f"{words.removeprefix('a ').removeprefix('an ')}s"


def covered() -> str:
    """Return the table of documented matches, acts and scopes, with their scenarios."""
    lines = [
        "Each scenario fails when its word is broken (`tests/testbed/test_conformance.py` breaks "
        "them all).\n",
        "| seen or supposed | scenarios |",
        "|---|---|",
    ]
    for kind, rows in (
        ("match", coverage.MATCHES),
        ("act", coverage.ACTS),
        ("scope", coverage.SCOPES),
    ):
        for words, keys in rows:
            lines.append(f"| {kind}: {words} | {', '.join(f'`{key}`' for key in keys)} |")
    return "\n".join(lines)


def acts() -> Iterator[str]:
    """Yield a section per act."""
    for act in ACTS:
        needed, optional = PARAMETERS.get(act, ((), ()))
        words = []
        if needed:
            words.append("needs " + ", ".join(f"`{key}`" for key in needed))
        if optional:
            words.append("takes " + ", ".join(f"`{key}`" for key in optional))
        text = f"{'; '.join(words).capitalize()}." if words else ""
        if act in BY_PACKET:
            text += ' Applied packet by packet: `scope` is left out, or `"packet"`.'
        yield f"### `{act}`\n\n{text.strip()}".strip()
        yield from (example(one) for one in SCENARIOS if one.key == f"act.{act}")


def examples_of(prefix: str) -> Iterator[str]:
    """Yield a section per word that occurs in scenarios only."""
    for key in dict.fromkeys(one.key for one in SCENARIOS if one.key.startswith(f"{prefix}.")):
        yield f"### `{key.partition('.')[2]}`"
        yield from (example(one) for one in SCENARIOS if one.key == key)


def example(one: Scenario) -> str:
    """Return a scenario: its statement, its rules, and each packet's fate."""
    return "\n\n".join([one.says, f"```toml\n{one.rules.strip()}\n```", transcript(one)])


def transcript(one: Scenario) -> str:
    """Return a scene with the fate of each packet, and what is measured."""
    from midcall.testbed.conformance.transcript import transcript as lines

    rows = [line for line in lines(one.scene) if line]
    if len(rows) == len(one.fates) <= LONG:
        wide = max(len(line) for line in rows)
        rows = [
            f"{line.ljust(wide)}   {FATES[fate]}"
            for line, fate in zip(rows, one.fates, strict=True)
        ]
    else:
        rows = [line.strip() for line in one.scene.strip().splitlines()][:LONG]
    if one.access != "fibre":
        rows.append(f"on {one.access}")
    if one.day is not None:
        rows.append(f"on {one.day}")
    if one.sees is not None:
        rows.append(f'sees = "{one.sees}"')
    if one.clock is not None:
        rows.append(f"at {one.clock:%H:%M}")
    rows += [f"forged: {one.forged}"] if one.forged else []
    rows += [f"frame: {words}" for words in one.frames]
    rows += [f"measured: {what} {value:g}" for what, value in one.measured]
    return "```\n" + "\n".join(rows) + "\n```"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
