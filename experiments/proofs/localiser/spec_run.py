# SPDX-License-Identifier: BSD-3-Clause
"""Localisations that a spec orders: its boxes asked about its captures, its benchmark.

Answers and rows are kept in a folder while the work lasts, so that an interrupted one goes on where
it stood and ends with the same bytes; when all is done the folder goes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from rich.text import Text

from midcall.captures.truth import catalogue as catalogues
from midcall.captures.truth.catalogue import Catalogue
from midcall.errors import ExperimentError
from midcall.experiments.cells.virtual_cell import cache_folder
from midcall.experiments.jobs.progress import PACE, Progress
from midcall.experiments.localise.document import SCHEMA, Document
from midcall.experiments.localise.document import lines as one_lines
from midcall.experiments.localise.document import shown as one_shown
from midcall.experiments.localise.oracle_session import Cost
from midcall.experiments.localise.run import Options, of_capture
from midcall.experiments.results import provenance
from midcall.experiments.spec.spec import Localise, Spec
from midcall.experiments.tools.explain_text import rendered
from midcall.suggestions import hint

if TYPE_CHECKING:
    from midcall.experiments.proofs.localiser.rule import Planted

#: Told of each step; see experiments.progress.
Log = Callable[[str], None]


class Job(NamedTuple):
    """One box to be asked about one capture. name: of the capture, as the spec has it."""

    name: str
    path: Path
    box: str


class Where(NamedTuple):
    """Where captures are looked for first, progress is printed, and answers are kept meanwhile."""

    corpus: Path | None = None
    stream: TextIO | None = None
    kept: Path | None = None
    log: Log | None = None


def wanted(spec: Spec) -> Localise:
    """Return what a spec orders; raises ExperimentError where it is nothing."""
    if spec.localise is None:
        raise ExperimentError(
            f"spec {spec.name}: orders no localisation; give it a [localise] table with captures "
            "and boxes"
        )
    return spec.localise


def jobs(spec: Spec, corpus: Path | None) -> list[Job]:
    """Return every box of a spec with every capture; raises ExperimentError for what is not had."""
    asked = wanted(spec)
    paths = {name: path_of(name, corpus, spec.name) for name in asked.captures}
    return [Job(name, paths[name], box) for name in asked.captures for box in asked.boxes]


def path_of(name: str, corpus: Path | None, spec: str) -> Path:
    """Return the file of a capture given by its name in the catalogue or by its path."""
    from midcall.captures.fetch.fetch import obtain

    known = {one.name: one for one in catalogues.load().captures}
    if name not in known:
        if Path(name).is_file():
            return Path(name)
        raise ExperimentError(
            f"spec {spec}: localise.captures: no capture and no file is named {name!r} "
            f"({hint(name, known)})"
        )
    one = known[name]
    had = obtain(Catalogue([one], catalogues.load().origins), corpus=corpus)
    if one.sha256 not in had.paths:
        raise ExperimentError(
            f"spec {spec}: localise.captures: {name} cannot be had: {had.missing[one.sha256]}"
        )
    return Path(had.paths[one.sha256])


def localised(spec: Spec, where: Where, reveal: bool = False) -> Document:
    """Return what was found of every box and capture of a spec, as one document.

    Raises TestbedError or ExperimentError for a box that cannot be asked.
    """
    asked = wanted(spec)
    found = []
    with keeping(spec, where, "boxes") as kept, Teller(where.stream) as teller:
        for job in jobs(spec, where.corpus):
            teller.begin(f"{job.name}, {job.box}", asked.budget)
            options = Options(
                noise=asked.box_noise,
                error=asked.error,
                budget=asked.budget,
                state=kept / f"{digest(job)}.json",
                reveal=reveal,
                seed=spec.seed,
                step=teller.step,
            )
            found.append(result(job, asked, options))
            teller.end(where.log)
    return {"schema": SCHEMA, "spec": spec.name, "boxes": found}


def result(job: Job, asked: Localise, options: Options) -> Document:
    """Return what was found of one box and capture."""
    return {**of_capture(job.path, job.box, asked.access, None, options), "file": job.name}


def planted(spec: Spec) -> dict[str, Sequence[Planted]]:
    """Return the rules of a spec's benchmark by set: of the list, drawn by it, of outsiders."""
    from midcall.experiments.proofs.localiser import third_party_rules
    from midcall.experiments.proofs.localiser.listed_rules import PLANTED
    from midcall.experiments.proofs.localiser.random_rules import drawn

    asked = wanted(spec)
    drawn_now = drawn(spec.seed, asked.drawn) if asked.drawn else ()
    sets: dict[str, Sequence[Planted]] = {"listed": PLANTED, "drawn": drawn_now}
    if asked.outsider:
        sets["outsider"] = third_party_rules.rules()
        sets |= {
            f"outsider-{author}": third_party_rules.rules_of(author)
            for author in third_party_rules.authors()
        }
    return sets


def benchmark(spec: Spec, where: Where) -> list[dict[str, Any]]:
    """Return the rows of a spec's benchmark (see proofs.localiser.score), [] for none."""
    from midcall.experiments.proofs.localiser import score

    asked, sets = wanted(spec), planted(spec)
    total = len(asked.noise) * sum(map(len, sets.values()))
    rows = []
    with (
        keeping(spec, where, "benchmark") as kept,
        Progress("planted rules", total, stream=where.stream, log=where.log) as bar,
    ):
        for word, some in sets.items():
            rows += score.run(
                asked.noise, asked.budget, spec.seed, some, step=bar.step, of=word, kept=kept
            )
    return rows


# ---- what is kept meanwhile


@contextmanager
def keeping(spec: Spec, where: Where, part: str) -> Iterator[Path]:
    """Give the folder of what is kept, of a part of this spec and this code, until all is done."""
    home = where.kept or cache_folder().parent / "localisations"
    code = provenance.code_digest((*provenance.CELL_PACKAGES, "experiments"))
    name = hashlib.sha256(repr((spec.model_dump_json(), code)).encode()).hexdigest()[:16]
    folder = home / f"{spec.name}-{part}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def digest(job: Job) -> str:
    """Return a name for a job's file."""
    return hashlib.sha256(repr(job).encode()).hexdigest()[:16]


class Teller:
    """Tells how far a localisation is: how many questions there will be nobody knows, so it counts
    them and the probes of the budget. One rewritten line on a terminal, else a line now and then.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream or sys.stderr
        self.what, self.budget, self.cost = "", 0, Cost()
        self._told, self._open = time.monotonic(), False

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def begin(self, what: str, budget: int) -> None:
        """Begin with another box or capture."""
        self.what, self.budget, self.cost = what, budget, Cost()

    def step(self, cost: Cost) -> None:
        """Say what the asking has cost, at most a few times a second (or every PACE seconds)."""
        self.cost = cost
        now, terminal = time.monotonic(), self.stream.isatty()
        if now - self._told < (0.2 if terminal else PACE):
            return
        self._told = now
        if terminal:
            print(f"\r\x1b[K{self._line()}", end="", file=self.stream, flush=True)
            self._open = True
        else:
            print(self._line(), file=self.stream, flush=True)

    def end(self, log: Log | None) -> None:
        """Leave a box, its cost in the log."""
        self._close()
        if log is not None:
            log(self._line())

    def _line(self) -> str:
        return (
            f"localise {self.what}: {self.cost.questions} questions, {self.cost.probes} of "
            f"{self.budget} probes"
        )

    def _close(self) -> None:
        if self._open:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self._open = False


# ---- as text


def shown(result: Document, form: str, terminal: bool) -> str:
    """Return what was found of a spec as text for people, or as JSON; raises ExperimentError."""
    if form == "text":
        return rendered(lines(result["boxes"], terminal), terminal)
    return one_shown(result, form, terminal)


def lines(documents: Sequence[Document], terminal: bool) -> Iterator[Text]:
    """Yield the documents of a spec as lines for people, one after the other."""
    for number, document in enumerate(documents):
        if number:
            yield Text()
        yield from one_lines(document, terminal)
