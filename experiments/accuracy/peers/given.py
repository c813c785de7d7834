# SPDX-License-Identifier: BSD-3-Clause
"""Classifiers that the user gives: a command that prints CSV, or a Python function.

Each is asked about the same packets as the peers. It gets a copy of the file, named FILE, in a new
folder that holds nothing else: no capture's name, path or truth. `given_rows` reads its rows. The
file holds the packets of the capture after the disturbance, with their times.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midcall.errors import ExperimentError
from midcall.experiments.accuracy.peers import NAMES, bounded_program, given_rows
from midcall.experiments.accuracy.peers.labels import Answer
from midcall.experiments.measure import baselines

#: The name of every file that a classifier reads.
FILE = "capture.pcapng"
#: What stands for the file's path in a command.
PLACE = "{capture}"
#: Time limit of a command for one file, seconds.
TIMEOUT = 60.0
#: After so many files in a row that took too long, a command is not run again.
TIMEOUTS = 3
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")
#: Names of engines that a classifier cannot take.
TAKEN = ("midcall", "tree", *baselines.RULES, *NAMES)

#: A function from the path of a packet file (pcapng) to rows with given_rows.COLUMNS.
RowsOf = Callable[[str], Iterable[Mapping[str, Any]]]


class Command:
    """A program that prints a CSV row per flow.

    name: its name in tables; how: its command; version: the sha256 of the files that it names.
    """

    cached, parallel = True, True

    def __init__(self, name: str, how: str, seconds: float = TIMEOUT) -> None:
        self.name, self.how, self.seconds = name, how, seconds
        self.words = words_of(how)
        self.version = "sha256 " + digest(self.words)
        self.late = 0
        self.lock = threading.Lock()

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, "" or what is wrong)."""
        if self.late >= TIMEOUTS:
            return {}, f"was not asked, because {TIMEOUTS} files in a row took too long"
        with neutral(capture) as path:
            words = [word.replace(PLACE, path) for word in self.words]
            ended = bounded_program.run(words, self.seconds)
        too_late = ended.reason.startswith(bounded_program.late(self.seconds))
        with self.lock:
            self.late = self.late + 1 if too_late else 0
        return ({}, ended.reason) if ended.reason else given_rows.of_csv(ended.output)

    def close(self) -> None:
        """Do nothing: no process is running."""


class Function:
    """A Python function that returns rows. Its answers are not cached, and it has no time limit."""

    cached, parallel = False, False
    version = "Python"

    def __init__(self, name: str, rows_of: RowsOf) -> None:
        self.name, self.rows_of = name, rows_of
        self.how = getattr(rows_of, "__qualname__", type(rows_of).__name__)

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, "" or what is wrong)."""
        with neutral(capture) as path:
            try:
                return given_rows.of_dicts(self.rows_of(path))
            except Exception as error:  # any error of the function is its answer to this file
                words = " ".join(f"{type(error).__name__}: {error}".split())
                return {}, f"raised {words[: bounded_program.SHOWN]}"

    def close(self) -> None:
        """Do nothing."""


Given = Command | Function


def classifier(name: str, rows_of: RowsOf) -> Function:
    """Return a Python function as a classifier of an evaluation.

    name: its name in tables, a word. rows_of: called with the path of a pcapng file for every
    capture under every disturbance, in one thread; it returns (or yields) a mapping per flow, with
    the keys `proto` (tcp, udp, 6 or 17), `src_ip`, `src_port`, `dst_ip`, `dst_port` (the innermost
    addresses and ports, in either direction), `app` (a name of midcall.apps, meta, microsoft, or
    "" for a call without a name) and `verdict` (certain, unsure, not-call). Other keys are ignored.
    A flow without a row counts as "not-call"; a call is then missed. The file is deleted after the
    call. An exception, and a row with an unknown word, is counted and reported as an error.

    Raises ExperimentError for a name that is no word.

        options = run.Options(classifiers=(classifier("mine", rows_of),))
        run.evaluate("morocco-2016", options)
    """
    return Function(checked(name), rows_of)


def command(text: str, seconds: float = TIMEOUT) -> Command:
    """Return the classifier of "COMMAND" or "NAME=COMMAND"; raises ExperimentError.

    seconds: the time limit for one file. Without a name, it is that of the first file among the
    command's arguments, or of its program.
    """
    name, equals, how = text.partition("=")
    if not (equals and NAME.fullmatch(name)):
        how = text
        name = default_name(words_of(how))
    words_of(how)
    return Command(checked(name), how.strip(), seconds)


def chosen(given: Sequence[str | Given], seconds: float = TIMEOUT) -> list[Given]:
    """Return the classifiers of commands (text) and functions; raises ExperimentError."""
    classifiers = [command(one, seconds) if isinstance(one, str) else one for one in given]
    names: set[str] = set()
    for one in classifiers:
        if one.name in names:
            raise ExperimentError(
                f"--classifier: two are called {one.name!r}; name them: NAME=COMMAND"
            )
        names.add(one.name)
    return classifiers


def words_of(how: str) -> list[str]:
    """Return the words of a command, its program found; raises ExperimentError."""
    try:
        words = shlex.split(how)
    except ValueError as error:
        raise ExperimentError(f"--classifier: {how!r} is no list of words: {error}") from None
    if not any(PLACE in word for word in words):
        raise ExperimentError(
            f"--classifier: {how!r} does not say where the file's path goes: write {PLACE}"
        )
    if shutil.which(words[0]) is None:
        raise ExperimentError(
            f"--classifier: {words[0]!r} is no program that can be run (a file needs the right to "
            "be executed, and ./ before its name)"
        )
    return words


def default_name(words: Sequence[str]) -> str:
    """Return a name for a command: of the first file among its arguments, or of its program."""
    files = [word for word in words[1:] if Path(word).is_file()]
    stem = Path(files[0] if files else words[0]).stem
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", stem).lstrip("-_.+")[:40] or "classifier"


def checked(name: str) -> str:
    """Return a name; raises ExperimentError where it is no word or an engine's."""
    if not NAME.fullmatch(name):
        raise ExperimentError(
            f"--classifier: {name!r} is no name (letters, digits and _ . + -, at most 40)"
        )
    if name.lower() in TAKEN:
        raise ExperimentError(
            f"--classifier: {name!r} is another engine's name; give one: NAME=COMMAND"
        )
    return name


def digest(words: Sequence[str]) -> str:
    """Return 16 digits of the sha256 of every file that a command names, its program first."""
    whole = hashlib.sha256()
    for word in (shutil.which(words[0]) or "", *words[1:]):
        path = Path(word)
        if PLACE not in word and path.is_file():
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


@contextmanager
def neutral(capture: str) -> Iterator[str]:
    """Yield the path of a copy whose name and folder say nothing about the capture."""
    with tempfile.TemporaryDirectory(prefix="packets-", ignore_cleanup_errors=True) as folder:
        yield shutil.copyfile(capture, Path(folder, FILE)).as_posix()
