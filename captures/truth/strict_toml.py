# SPDX-License-Identifier: BSD-3-Clause
"""Read strict TOML files into typed models; every problem is reported at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from midcall.captures.truth.paths import shown
from midcall.errors import CaptureError

T = TypeVar("T", bound=BaseModel)

#: Keys by which a table in a list is called in a message, best first.
TITLES = ("name", "id", "flow", "origin")


class Table(BaseModel):
    """A table of a strict TOML file: no unknown keys, no silent conversions, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


def read_table(path: Path, model: type[T]) -> T:
    """Return a TOML file as a model; raises CaptureError with every problem, one a line."""
    table, problems = try_table(path, model)
    if table is None:
        raise CaptureError("\n".join(problems))
    return table


def try_table(path: Path, model: type[T]) -> tuple[T | None, list[str]]:
    """Return a TOML file as a model (None if it is invalid) and its problems."""
    where = shown(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, [f"{where}: no such file"]
    except OSError as error:
        return None, [f"{where}: cannot be read: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return None, [f"{where}: not a TOML file: {error}"]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, [f"{where}: {line}" for line in sentences(error, raw, model)]


def sentences(error: ValidationError, raw: Any, model: type[BaseModel]) -> Iterator[str]:
    """Yield one exact sentence per problem of a validation."""
    for detail in error.errors():
        place = spot(detail["loc"], raw)
        key = str(detail["loc"][-1]) if detail["loc"] else ""
        yield (
            f"{place}: {problem_of(detail, key, model)}"
            if place
            else problem_of(detail, key, model)
        )


def problem_of(detail: ErrorDetails, key: str, model: type[BaseModel]) -> str:
    """Return a problem's text: got, expected, and the closest match of a misspelt word."""
    kind, got = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return "unknown key" + hint(key, known_keys(model))
    if kind == "missing":
        return "the key is missing"
    if kind == "literal_error":
        expected = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"got {got!r}, expected one of {expected}" + hint(str(got), expected.split(", "))
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    return f"got {got!r}, expected: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def hint(word: str, choices: list[str]) -> str:
    """Return "; did you mean ...?" for the closest choice, "" if none is close."""
    close = difflib.get_close_matches(word, choices, 1)
    return f"; did you mean {close[0]}?" if close else ""


def spot(loc: tuple[int | str, ...], raw: Any) -> str:
    """Return a location in a table as text: `capture wa_video: source 2: path`."""
    parts: list[str] = []
    for step in loc:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            raw = None
        if isinstance(step, int) and parts:
            parts[-1] = f"{parts[-1]} {title(raw, step)}"
        else:
            parts.append(str(step))
    return ": ".join(parts)


def title(item: Any, position: int) -> str:
    """Return the name of a list's item (see TITLES), else its position counted from 1."""
    if isinstance(item, dict):
        for key in TITLES:
            if isinstance(item.get(key), str | int):
                return str(item[key])
    return str(position + 1)


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return every key of a model and of the models inside it."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(str(field.validation_alias or name))
        for inner in models_in(field.annotation):
            keys += known_keys(inner)
    return keys


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


# ---- writing


def toml(value: Any) -> str:
    """Return a string, number, boolean, list or flat dict as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(toml(item) for item in value) + "]"


def quoted(text: str) -> str:
    """Return a TOML basic string."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in out) + '"'


def block(head: str, table: dict[str, Any]) -> str:
    """Return `[[head]]` and its keys, long lists of tables one a line; None values left out."""
    lines = [f"[[{head}]]"]
    for key, value in table.items():
        if value is None:
            continue
        text = f"{key} = {toml(value)}"
        if len(text) > 100 and isinstance(value, list):
            text = f"{key} = [\n" + "".join(f"  {toml(item)},\n" for item in value) + "]"
        lines.append(text)
    return "\n".join(lines) + "\n"
