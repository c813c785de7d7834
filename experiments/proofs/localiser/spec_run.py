# SPDX-License-Identifier: BSD-3-Clause
"""Localisations that a spec orders: its boxes with its captures, and the benchmark.

Answers and rows are stored in a work folder until all is done, so that an interrupted run resumes
and ends with the same bytes; then the folder is removed.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.text import Text

from midcall.captures.truth import catalogue as catalogues
from midcall.captures.truth.catalogue import Catalogue
from midcall.errors import ExperimentError
from midcall.experiments.cells.virtual_cell import cache_folder
from midcall.experiments.jobs.progress import PACE, Progress
from midcall.experiments.localise.document import SCHEMA, Document
from midcall.experiments.localise.document import formatted as formatted_one
from midcall.experiments.localise.document import lines as one_lines
from midcall.experiments.localise.oracle_session import Cost
from midcall.experiments.localise.run import Options, localise_capture
from midcall.experiments.results import provenance
from midcall.experiments.results.tables import LocaliseRow
from midcall.experiments.spec.spec import Localise, Spec
from midcall.experiments.tools.explain_text import rendered
from midcall.suggestions import hint

if TYPE_CHECKING:
    from midcall.experiments.proofs.localiser.rule import BenchmarkRule

#: Called with a line for each step; see experiments.jobs.progress.
Log = Callable[[str], None]


class Job(NamedTuple):
    """One box and one capture. name: of the capture, as in the spec."""

    name: str
    path: Path
    box: str


class Locations(NamedTuple):
    """The folder searched for captures first, the stream of progress, and the folder of stored
    answers."""

    corpus: Path | None = None
    stream: TextIO | None = None
    work_folder: Path | None = None
    log: Log | None = None


def localise_table(spec: Spec) -> Localise:
    """Return the [localise] table of a spec. Raises ExperimentError if there is none."""
    if spec.localise is None:
        raise ExperimentError(
            f"spec {spec.name}: orders no localisation; give it a [localise] table with captures "
            "and boxes"
        )
    return spec.localise


def jobs(spec: Spec, corpus: Path | None) -> list[Job]:
    """Return every box of a spec with every capture. Raises ExperimentError for a missing
    capture."""
    table = localise_table(spec)
    paths = {name: path_of(name, corpus, spec.name) for name in table.captures}
    return [Job(name, paths[name], box) for name in table.captures for box in table.boxes]


def path_of(name: str, corpus: Path | None, spec: str) -> Path:
    """Return the file of a capture given by its name in the catalogue or by its path. Raises
    ExperimentError."""
    from midcall.captures.fetch.fetch import obtain

    known = {capture.name: capture for capture in catalogues.load().captures}
    if name not in known:
        if Path(name).is_file():
            return Path(name)
        raise ExperimentError(
            f"spec {spec}: localise.captures: no capture and no file is named {name!r} "
            f"({hint(name, known)})"
        )
    capture = known[name]
    obtained = obtain(Catalogue([capture], catalogues.load().origins), corpus=corpus)
    if capture.sha256 not in obtained.paths:
        raise ExperimentError(
            f"spec {spec}: localise.captures: {name} cannot be had: "
            f"{obtained.missing[capture.sha256]}"
        )
    return Path(obtained.paths[capture.sha256])


def localise_spec(spec: Spec, locations: Locations, reveal: bool = False) -> Document:
    """Return the results of every box and capture of a spec as one document.

    Raises TestbedError or ExperimentError for a box that cannot be probed.
    """
    table = localise_table(spec)
    documents = []
    with (
        work_folder_of(spec, locations, "boxes") as folder,
        ProgressLine(locations.stream) as progress,
    ):
        for job in jobs(spec, locations.corpus):
            progress.begin(f"{job.name}, {job.box}", table.budget)
            options = Options(
                noise=table.box_noise,
                error=table.error,
                budget=table.budget,
                state=folder / f"{digest(job)}.json",
                reveal=reveal,
                seed=spec.seed,
                step=progress.step,
            )
            documents.append(result(job, table, options))
            progress.end(locations.log)
    return {"schema": SCHEMA, "spec": spec.name, "boxes": documents}


def result(job: Job, table: Localise, options: Options) -> Document:
    """Return the result of one box and capture."""
    return {**localise_capture(job.path, job.box, table.access, None, options), "file": job.name}


def benchmark_rules(spec: Spec) -> dict[str, Sequence[BenchmarkRule]]:
    """Return the rules of a spec's benchmark by set: listed, drawn, third-party."""
    from midcall.experiments.proofs.localiser import third_party_rules
    from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES
    from midcall.experiments.proofs.localiser.random_rules import draw_rules

    table = localise_table(spec)
    random_rules = draw_rules(spec.seed, table.drawn) if table.drawn else ()
    sets: dict[str, Sequence[BenchmarkRule]] = {"listed": LISTED_RULES, "drawn": random_rules}
    if table.outsider:
        sets["outsider"] = third_party_rules.rules()
        sets |= {
            f"outsider-{author}": third_party_rules.rules_of(author)
            for author in third_party_rules.authors()
        }
    return sets


def benchmark(spec: Spec, locations: Locations) -> list[LocaliseRow]:
    """Return the rows of a spec's benchmark (see proofs.localiser.score), [] if it has none."""
    from midcall.experiments.proofs.localiser import score

    table, sets = localise_table(spec), benchmark_rules(spec)
    total = len(table.noise) * sum(map(len, sets.values()))
    rows = []
    with (
        work_folder_of(spec, locations, "benchmark") as folder,
        Progress("planted rules", total, stream=locations.stream, log=locations.log) as bar,
    ):
        for name, rules in sets.items():
            rows += score.run(
                table.noise,
                table.budget,
                spec.seed,
                rules,
                step=bar.step,
                rule_set=name,
                cache=folder,
            )
    return rows


# ---- stored results


@contextmanager
def work_folder_of(spec: Spec, locations: Locations, part: str) -> Iterator[Path]:
    """Yield the folder of stored results, for a part of this spec and this code; removed when all
    is done."""
    home = locations.work_folder or cache_folder().parent / "localisations"
    code = provenance.code_digest((*provenance.CELL_PACKAGES, "experiments"))
    name = hashlib.sha256(repr((spec.model_dump_json(), code)).encode()).hexdigest()[:16]
    folder = home / f"{spec.name}-{part}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def digest(job: Job) -> str:
    """Return the name of a job's file."""
    return hashlib.sha256(repr(job).encode()).hexdigest()[:16]


class ProgressLine:
    """Shows the progress of a localisation: the questions and the probes of the budget so far. The
    total is not known in advance. On a terminal it is one rewritten line, otherwise a line now and
    then."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream or sys.stderr
        self.what, self.budget, self.cost = "", 0, Cost()
        self._printed, self._open = time.monotonic(), False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def begin(self, what: str, budget: int) -> None:
        """Start with another box or capture."""
        self.what, self.budget, self.cost = what, budget, Cost()

    def step(self, cost: Cost) -> None:
        """Print the cost so far, at most a few times a second (or every PACE seconds)."""
        self.cost = cost
        now, terminal = time.monotonic(), self.stream.isatty()
        if now - self._printed < (0.2 if terminal else PACE):
            return
        self._printed = now
        if terminal:
            print(f"\r\x1b[K{self._line()}", end="", file=self.stream, flush=True)
            self._open = True
        else:
            print(self._line(), file=self.stream, flush=True)

    def end(self, log: Log | None) -> None:
        """Finish a box and write its cost to the log."""
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


def formatted(result: Document, form: str, terminal: bool) -> str:
    """Return the results of a spec as text or as JSON. Raises ExperimentError."""
    if form == "text":
        return rendered(lines(result["boxes"], terminal), terminal)
    return formatted_one(result, form, terminal)


def lines(documents: Sequence[Document], terminal: bool) -> Iterator[Text]:
    """Yield the documents of a spec as lines of text, one after the other."""
    for number, document in enumerate(documents):
        if number:
            yield Text()
        yield from one_lines(document, terminal)
