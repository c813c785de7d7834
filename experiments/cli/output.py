# SPDX-License-Identifier: BSD-3-Clause
"""Output that all commands share: results, problems, and errors that a user can correct.

An error that a user can correct is one sentence on the standard error and exit code 2. A run with
failed cells ends with exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130


def say(line: str) -> None:
    """Print one line on the standard error."""
    print(line, file=sys.stderr, flush=True)


def plain(value: object) -> str:
    """Return a value as JSON for a pipe."""
    return json.dumps(value, indent=1, sort_keys=True, default=str)


def give(as_json: bool, value: object, lines: Iterable[object]) -> None:
    """Print a value as JSON for a program, or its lines for a person."""
    print(plain(value) if as_json else "\n".join(map(str, lines)))


def tell(as_json: bool, problems: Sequence[object], fine: str, code: int = FAILED) -> None:
    """Print the problems of a check, or `fine` if there is none; problems give an exit code."""
    if as_json:
        print(plain({"problems": problems}))
    for problem in problems:
        say(f"midcall: {problem}")
    if problems:
        raise typer.Exit(code)
    if not as_json:
        print(fine)


@contextmanager
def sentences(resumes: bool = False, place: str = "--runs") -> Iterator[None]:
    """Turn errors that a user can correct into one sentence and exit code 2, without a traceback.

    resumes: the command saves finished work and continues from there when it is run again. place:
    the command's option that chooses where results go, "" for none.
    """
    try:
        yield
    except KeyboardInterrupt:
        resume_note = "; what is finished is kept, the same command goes on from there"
        say(f"interrupted{resume_note if resumes else ''}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        quiet_pipe()
        raise typer.Exit(0) from None
    except Exception as error:
        sentence = user_error(error, place)
        if sentence is None:
            raise
        say(f"midcall: {sentence}")
        raise typer.Exit(USER_ERROR) from None


def user_error(error: Exception, place: str = "--runs") -> str | None:
    """Return the sentence of an error that a user can correct, None for any other error.

    Those are errors of the four packages, of the disk, and of permissions.
    """
    from midcall.errors import CaptureError, ClassifierError, ExperimentError, TestbedError
    from midcall.experiments.results import atomic_folder

    if isinstance(error, CaptureError | ClassifierError | ExperimentError | TestbedError):
        return str(error)
    return atomic_folder.disk_error_sentence(error, place) if isinstance(error, OSError) else None


def quiet_pipe() -> None:
    """Discard further output: the reader of the pipe has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
