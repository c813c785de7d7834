# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of the policy language and engines: each element and mechanism under each engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from midcall.errors import TestbedError
from midcall.experiments.engines import edge_cases, prove
from midcall.experiments.engines.captures_here import captures_here
from midcall.experiments.engines.edits import Edits, edits
from midcall.experiments.engines.elements import elements
from midcall.experiments.engines.prove import Difference, Engine, Inputs
from midcall.experiments.engines.speed import Speed, speeds
from midcall.experiments.spec import policy_names
from midcall.experiments.spec.spec import Spec
from midcall.testbed.engines.export import export
from midcall.testbed.policy.loader import load
from midcall.testbed.policy.operator import Policy

EQUAL, DIFFERS, REFUSED, NOT_RUN = "equal", "differs", "refused", "not run"
NAMES_ONLY = "nDPI names flows, and acts on none"
#: The folder of a run that has the smallest captures that differ.
FOLDER = "engines"


class Witness(TypedDict):
    """A packet of a smallest capture that differs, and whether each of the two lets it pass."""

    capture: str
    frame: int
    midcall: bool
    engine: bool


class Cell(TypedDict):
    """One policy under one engine.

    kind: mechanism, or that of an element (match, payload, act, scope, key), and policy its name;
    match, acts: the keys of its rules; answer: equal (on `packets` packets), differs (in `differs`
    of them; `witness` is the smallest capture, and `file` its pcapng), refused or not run; exact:
    whether the export names no difference; reasons: of a refusal, or in what the translation is
    approximate.
    """

    kind: str
    policy: str
    match: list[str]
    acts: list[str]
    engine: str
    answer: str
    exact: bool
    packets: int
    differs: int
    reasons: list[str]
    witness: list[Witness]
    file: str


class Matrix(NamedTuple):
    """Blocks of summary.json, and files of the run: path -> content.

    engines: list of Cell; engine_edits: list of Edits; engine_speed: a Timed; {} for none.
    """

    block: dict[str, Any]
    files: dict[str, bytes]


class Timed(TypedDict):
    """The speed of engines under a policy; missing: why it was not measured, "" where it was."""

    policy: str
    missing: str
    paths: list[Speed]


class Named(NamedTuple):
    """A policy of the matrix: its kind and its name."""

    kind: str
    name: str
    policy: Policy


def matrix(spec: Spec, corpus: Path | None, step: Callable[[str], None] = lambda _: None) -> Matrix:
    """Return the matrix that a spec asks for; raises errors that a user can correct."""
    plan = spec.engines
    if plan is None:
        return Matrix({}, {})
    captures = captures_here(corpus) if plan.captures == "all" else plan.captures
    inputs = Inputs([*captures, *[edge_cases.NAME] * plan.edge_cases], corpus)
    files: dict[str, bytes] = {}
    cells: list[Cell] = []
    edited: list[Edits] = []
    for engine in plan.engines:
        with started(engine) as (running, missing):
            for one in policies(plan.operator, plan.access):
                if plan.cells == "exact" and not export(one.policy, engine).exact:
                    continue
                cell, content = answered(one, engine, running, missing, inputs, plan.access)
                if content:
                    files[cell["file"]] = content
                cells.append(cell)
                step(f"{engine} {one.name}: {cell['answer']}")
            if running is not None and plan.edits and engine != "ndpi":
                edited.append(edits(running, engine, inputs, plan.access, spec.seed, plan.edits))
                step(f"{engine}: {edited[-1]['noticed']} of {edited[-1]['changed']} edits noticed")
    block: dict[str, Any] = {"engines": cells}
    if plan.edits:
        block["engine_edits"] = edited
    if plan.speed:
        block["engine_speed"] = timed(plan.speed, plan.access, step)
    return Matrix(block, files)


def timed(words: str, access: str, step: Callable[[str], None]) -> Timed:
    """Return the speed of the engines under a policy, or why it cannot be measured here."""
    out: Timed = {"policy": words, "missing": "", "paths": []}
    policy = policy_names.named(words, access, None).policy
    try:
        out["paths"] = speeds(policy, step)
    except TestbedError as error:
        out["missing"] = str(error)
    return out


def policies(operator: str, access: str) -> Iterator[Named]:
    """Yield the elements of the language, and the hypotheses of an operator."""
    for one in elements():
        yield Named(one.kind, one.name, one.policy)
    for hypothesis in load(operator).hypotheses:
        name = f"{operator}/{hypothesis.id}"
        yield Named("mechanism", name, policy_names.named(name, access, None).policy)


def answered(
    one: Named, engine: str, running: Engine | None, missing: str, inputs: Inputs, access: str
) -> tuple[Cell, bytes]:
    """Return the cell of a policy under an engine, and the pcapng of its witness (b"" for none).

    running: None where the engine cannot run, and missing is the reason.
    """
    keys = {key for rule in one.policy.rules for key in rule.match.model_fields_set}
    made = export(one.policy, engine)
    reasons = dict.fromkeys(item.reason for item in (*made.refused, *made.nearly))
    cell: Cell = {
        "kind": one.kind,
        "policy": one.name,
        "match": sorted(keys),
        "acts": sorted({rule.act for rule in one.policy.rules}),
        "engine": engine,
        "answer": REFUSED,
        "exact": made.exact,
        "packets": 0,
        "differs": 0,
        "reasons": list(reasons),
        "witness": [],
        "file": "",
    }
    if made.refused:
        return cell, b""
    if engine == "ndpi" and one.kind in ("act", "scope", "key"):
        return {**cell, "reasons": [NAMES_ONLY]}, b""
    if running is None:
        return {**cell, "answer": NOT_RUN, "reasons": [missing]}, b""
    label = f"{one.kind} {one.name}"
    total, differs, found = prove.compared(running, one.policy, engine, inputs, access, label=label)
    cell["packets"], cell["differs"] = total, differs
    cell["answer"] = DIFFERS if differs else EQUAL
    if found is None:
        return cell, b""
    cell["witness"] = witnesses(found)
    cell["file"] = f"{FOLDER}/{engine}-{file_word(label)}.pcapng"
    return cell, prove.as_pcapng(found, engine)


def file_word(words: str) -> str:
    """Return a name as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


@contextmanager
def started(engine: str) -> Iterator[tuple[Engine | None, str]]:
    """Start an engine; gives (None, the reason) where it cannot run on this machine."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(prove.opened(engine))
        except TestbedError as error:
            yield None, str(error)
            return
        yield running, ""


def witnesses(found: Difference | None) -> list[Witness]:
    """Return the packets of a difference; [] for none."""
    if found is None:
        return []
    answers = zip(found.packets, found.ours.passes, found.engine.passes, strict=True)
    return [
        {
            "capture": found.capture,
            "frame": one.frame + 1,
            "midcall": bool(ours),
            "engine": bool(other),
        }
        for one, ours, other in answers
    ]
