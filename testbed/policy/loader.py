# SPDX-License-Identifier: BSD-3-Clause
"""Operators' TOML files: those that ship, and reading one with what it includes."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from midcall.captures.truth.paths import shown
from midcall.captures.truth.strict_toml import hint, try_table
from midcall.errors import TestbedError
from midcall.locations import OPERATORS
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Hypothesis, Mechanisms, Operator
from midcall.testbed.policy.syntax import repeated


def available() -> list[str]:
    """Return the ids of the operators that ship with the lab."""
    return sorted(path.stem for path in OPERATORS.glob("*.toml"))


def load(name: str | Path) -> Operator:
    """Return an operator by the id of one that ships, or by the path of a file.

    Raises TestbedError with every problem of the file and of those it includes, one a line.
    """
    path = file_of(name)
    if Path(name).suffix != ".toml":
        if not path.is_file():
            known = available()
            raise TestbedError(
                f"no operator {str(name)!r} ships with the lab; give one of {', '.join(known)}, "
                f"or the path of a .toml file{hint(str(name), known)}"
            )
    operator, problems = try_load(path)
    if operator is None:
        raise TestbedError("\n".join(problems))
    return operator


def file_of(name: str | Path) -> Path:
    """Return the file of an operator that ships, or the path itself."""
    path = Path(name)
    return path if path.suffix == ".toml" else OPERATORS / f"{name}.toml"


def files_of(name: str | Path) -> list[Path]:
    """Return an operator's file, those that it includes, and the censors of its rules."""
    path = file_of(name)
    files = [path, *(path.parent / word for word in words_of(raw_table(path), "include"))]
    for hypothesis in load(name).hypotheses:
        files += [Path(rule.file) for rule in hypothesis.rules if rule.file]
    return list(dict.fromkeys(one.resolve() for one in files))


def try_load(path: Path) -> tuple[Operator | None, list[str]]:
    """Return the operator of a file (None where it is invalid) and its problems."""
    operator, problems = try_table(path, Operator)
    raw = raw_table(path)
    sets, hypotheses = [], []
    folder = path.parent
    raws = [raw]
    for word in words_of(raw, "include"):
        shared, shared_problems = try_table(path.parent / word, Mechanisms)
        problems += shared_problems
        raws.append(raw_table(path.parent / word))
        shared_path = path.parent / word
        problems += [
            f"{shown(shared_path)}: {line}" for line in place_problems(raws[-1], shared_path.parent)
        ]
        if shared is not None:
            sets += shared.sets
            hypotheses += [
                with_full_paths(one, (folder / word).parent) for one in shared.hypotheses
            ]
    problems += [f"{shown(path)}: {line}" for line in reference_problems(raws)]
    problems += [f"{shown(path)}: {line}" for line in place_problems(raw, folder)]
    if operator is None or problems:
        return None, problems
    own = [with_full_paths(one, folder) for one in operator.hypotheses]
    whole = {"sets": [*operator.sets, *sets], "hypotheses": [*own, *hypotheses]}
    return operator.model_copy(update=whole), []


def with_full_paths(hypothesis: Hypothesis, folder: Path) -> Hypothesis:
    """Return a hypothesis with absolute paths of its censors; folder: that of its file."""
    return hypothesis.model_copy(update={"rules": located(hypothesis.rules, folder)})


def located(rules: list[Rule], folder: Path) -> list[Rule]:
    """Return rules with absolute paths of their censors, and the censors' digests."""
    out = []
    for rule in rules:
        if rule.file:
            path = str((folder / rule.file).resolve())
            rule = rule.model_copy(update={"file": path, "digest": file_digest(path)})
        out.append(rule)
    return out


def place_problems(raw: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield each censor of a file that is outside of the file's folder and of the shared one.

    A policy is data that people pass on, and a censor is code that runs: a policy must not name
    code elsewhere on the machine.
    """
    roots = (folder.resolve(), (OPERATORS / "shared").resolve())
    for hypothesis in tables_of(raw, "hypothesis"):
        for rule in tables_of(hypothesis, "rule"):
            file = rule.get("file")
            if not isinstance(file, str) or not file:
                continue
            place = (folder / file).resolve()
            if not any(place.is_relative_to(root) for root in roots):
                yield (
                    f"hypothesis {hypothesis.get('id')}: rule {rule.get('name')}: file: got "
                    f"{file!r}, expected a censor below the folder of this TOML file "
                    "(or in shared/ of the lab's operators); copy it there"
                )


def file_digest(path: str) -> str:
    """Return the sha256 (hex) of a file, "" where it cannot be read (loading it reports that)."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def raw_table(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values, {} where it cannot be read (reported elsewhere)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def tables_of(raw: Any, key: str) -> list[dict[str, Any]]:
    """Return the tables of a list, [] where the key has another type."""
    value = raw.get(key, []) if isinstance(raw, dict) else []
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def words_of(raw: Any, key: str) -> list[str]:
    """Return the strings of a list, [] where the key has another type."""
    value = raw.get(key, []) if isinstance(raw, dict) else []
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def reference_problems(raws: list[dict[str, Any]]) -> Iterator[str]:
    """Yield every name without a target in a file and the files that it includes."""
    hypotheses = [one for raw in raws for one in tables_of(raw, "hypothesis")]
    known = [str(one.get("id")) for one in hypotheses]
    sets = [str(one.get("name")) for raw in raws for one in tables_of(raw, "set")]
    for name in repeated(known):
        yield f"hypothesis {name}: two hypotheses have this id; give each its own"
    for one in hypotheses:
        title, taken = one.get("id"), one.get("rules_of")
        own = [str(other.get("id")) for other in hypotheses if "rules_of" not in other]
        if isinstance(taken, str) and taken not in own:
            yield (
                f"hypothesis {title}: rules_of: no hypothesis {taken!r} with rules of its own"
                f"{hint(taken, own)}"
            )
        for rule in tables_of(one, "rule"):
            for word in words_of(rule.get("match"), "addresses"):
                if "/" not in word and not word[:1].isdigit() and word not in sets:
                    yield (
                        f"hypothesis {title}: rule {rule.get('name')}: match: addresses: "
                        f"no [[set]] {word!r}{hint(word, sets)}"
                    )
    for at, period in enumerate(tables_of(raws[0], "period"), 1):
        for word in words_of(period, "only"):
            if word not in known:
                yield f"period {at}: only: no hypothesis {word!r}{hint(word, known)}"
