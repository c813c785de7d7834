# SPDX-License-Identifier: BSD-3-Clause
"""What every command says alike: its answer, its problems, and what a user can mend.

What a user can mend is one sentence on the standard error and exit code 2; a run with failed cells
ends with 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer

FAILED, MENDABLE, INTERRUPTED = 1, 2, 130


def say(line: str) -> None:
    """Print one line on the standard error."""
    print(line, file=sys.stderr, flush=True)


def plain(value: object) -> str:
    """Return a value as JSON for a pipe."""
    return json.dumps(value, indent=1, sort_keys=True, default=str)


def give(as_json: bool, value: object, lines: Iterable[object]) -> None:
    """Print a value as JSON for a program, or its lines for a person."""
    print(plain(value) if as_json else "\n".join(map(str, lines)))


def tell(as_json: bool, problems: Sequence[object], fine: str) -> None:
    """Print the problems of a check, or that there is none; problems end the command with 1."""
    if as_json:
        print(plain({"problems": problems}))
    for problem in problems:
        say(f"midcall: {problem}")
    if problems:
        raise typer.Exit(FAILED)
    if not as_json:
        print(fine)


@contextmanager
def sentences(resumes: bool = False) -> Iterator[None]:
    """Turn what a user can mend into one sentence and exit code 2, without a traceback.

    resumes: the command keeps what it has finished, and goes on from there when it is given again.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = "; what is finished is kept, the same command goes on from there"
        say(f"interrupted{kept if resumes else ''}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        quiet_pipe()
        raise typer.Exit(0) from None
    except Exception as error:
        sentence = mendable(error)
        if sentence is None:
            raise
        say(f"midcall: {sentence}")
        raise typer.Exit(MENDABLE) from None


def mendable(error: Exception) -> str | None:
    """Return an error of the four packages, the disk or permissions as a sentence, None else."""
    from midcall.errors import CaptureError, ClassifierError, ExperimentError, TestbedError
    from midcall.experiments.results import atomic_folder

    if isinstance(error, CaptureError | ClassifierError | ExperimentError | TestbedError):
        return str(error)
    return atomic_folder.told(error) if isinstance(error, OSError) else None


def quiet_pipe() -> None:
    """Send what is still to be printed nowhere: the reader of our pipe has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
