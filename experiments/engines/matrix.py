# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of mechanisms and engines: each hypothesis of an operator under each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

from midcall.errors import TestbedError
from midcall.experiments.engines import prove
from midcall.experiments.engines.prove import Difference, Engine
from midcall.experiments.spec import policy_names
from midcall.experiments.spec.spec import Spec
from midcall.testbed.engines.export import export
from midcall.testbed.policy.loader import load

EQUAL, DIFFERS, REFUSED, NOT_RUN = "equal", "differs", "refused", "not run"


class Witness(TypedDict):
    """A packet of a smallest capture that differs, and whether each of the two lets it pass."""

    capture: str
    frame: int
    midcall: bool
    engine: bool


class Cell(TypedDict):
    """One hypothesis under one engine.

    match, acts: the keys of its rules; answer: equal (on `packets` packets), differs (in `differs`
    of them; `witness` is the smallest capture), refused or not run; reason: of a refusal, or in
    what the translation is approximate.
    """

    policy: str
    match: list[str]
    acts: list[str]
    engine: str
    answer: str
    packets: int
    differs: int
    reason: str
    witness: list[Witness]


def block(
    spec: Spec, corpus: Path | None, step: Callable[[str], None] = lambda _: None
) -> dict[str, list[Cell]]:
    """Return the block `engines` of summary.json; {} if the spec asks for none."""
    plan = spec.engines
    if plan is None:
        return {}
    cells: list[Cell] = []
    for engine in plan.engines:
        cells += engine_cells(plan.operator, engine, plan.captures, plan.access, corpus, step)
    return {"engines": cells}


def engine_cells(
    operator: str,
    engine: str,
    captures: Sequence[str],
    access: str,
    corpus: Path | None,
    step: Callable[[str], None],
) -> Iterator[Cell]:
    """Yield the cells of one engine, in the order of the operator's hypotheses."""
    with started(engine) as (running, missing):
        for hypothesis in load(operator).hypotheses:
            name = f"{operator}/{hypothesis.id}"
            policy = policy_names.named(name, access, None).policy
            keys = {key for rule in policy.rules for key in rule.match.model_fields_set}
            cell: Cell = {
                "policy": name,
                "match": sorted(keys),
                "acts": sorted({rule.act for rule in policy.rules}),
                "engine": engine,
                "answer": REFUSED,
                "packets": 0,
                "differs": 0,
                "reason": "",
                "witness": [],
            }
            made = export(policy, engine)
            cell["reason"] = "; ".join(one.reason for one in (*made.refused, *made.nearly))
            if not made.refused and running is None:
                cell["answer"], cell["reason"] = NOT_RUN, missing
            elif not made.refused and running is not None:
                total, differs, found = prove.compared(
                    running, policy, engine, captures, access, corpus, lambda _: None
                )
                cell["packets"], cell["differs"] = total, differs
                cell["answer"] = DIFFERS if differs else EQUAL
                cell["witness"] = witnesses(found)
            step(f"{engine} {name}")
            yield cell


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
    answers = zip(found.packets, found.ours, found.engine, strict=True)
    return [
        {
            "capture": found.capture,
            "frame": one.frame + 1,
            "midcall": bool(ours),
            "engine": bool(other),
        }
        for one, ours, other in answers
    ]
