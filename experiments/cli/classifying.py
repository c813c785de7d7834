# SPDX-License-Identifier: BSD-3-Clause
"""`midcall classify`: write to one output, or to a folder of Parquet parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.errors import ExperimentError
from midcall.experiments.cells.classify import classify, classify_file, expand, format_of, is_url


def say(line: str) -> None:
    """Print one line of the command on the standard error."""
    print(f"midcall: {line}", file=sys.stderr, flush=True)


def announce() -> None:
    """Print a notice if the packet path must be compiled first (about half a minute)."""
    from midcall.captures.jit.kernel import when_compiling

    when_compiling(lambda: say("compiling the packet path, once"))


def run(
    names: Sequence[str],
    form: str | None,
    out: str | None,
    cores: int,
    cluster: str | None,
    jobs: int | None = None,
    quality: str | None = None,
) -> bool:
    """Classify captures; return whether all of them could be read.

    jobs: files at once, None for all processor cores that this process may use. quality: the file
    for the quality of calls per second.
    """
    folder = out is not None and out.endswith("/")
    if quality is not None:
        check_quality(quality, out, folder or format_of(form, out) == "pcapng", cores)
    announce()
    if not folder:
        url = next((name for name in names if is_url(name)), None)
        option = "--cluster" if cluster else url
        if option:
            raise ExperimentError(f"{option}: the output is a folder, give one as -o OUT/")
        if format_of(form, out) == "pcapng":
            return with_comments(names, out)
        jobs = jobs or max(1, len(os.sched_getaffinity(0)) // cores)
        if quality is None:
            return classify(names, form, out, say, partial(classify_file, cores=cores), jobs)
        from midcall.experiments.tools import quality as measuring

        with measuring.writer(None, quality) as target:
            return classify(names, form, out, say, measuring.classify_file, jobs, target)
    if STANDARD_INPUT in names:
        raise ExperimentError(
            f"-: the standard input cannot be classified into a folder ({out}), which is continued "
            "after an interruption; give a file as -o OUT"
        )
    if form not in (None, "parquet"):
        raise ExperimentError(f"--format {form}: a folder ({out}) gets Parquet; leave it out")
    from midcall.experiments.tools import dataset

    result = dataset.classify(names, str(out), say, cluster, cores)
    print("\n".join(dataset.lines(result, str(out))))
    return not result.unread and not result.failed


def check_quality(quality: str, out: str | None, unlike: bool, cores: int) -> None:
    """Raise ExperimentError where quality cannot be written beside the output.

    unlike: the output is a folder or a pcapng file.
    """
    if unlike:
        raise ExperimentError(
            f"--quality {quality}: the output {out} is no table of flows; give a csv, json, "
            "parquet or text file as -o OUT"
        )
    if cores > 1:
        raise ExperimentError(f"--quality {quality}: a file is measured on one core; --cores 1")
    if quality == "-" or (out is not None and os.path.abspath(quality) == os.path.abspath(out)):
        raise ExperimentError(f"--quality {quality}: give a file of its own, as --quality FILE.csv")


def with_comments(names: Sequence[str], out: str | None) -> bool:
    """Write one capture as pcapng with its verdicts as comments; return True.

    Raises ExperimentError for several captures, or where the output is a terminal.
    """
    from midcall.experiments.tools.annotate import annotate

    if out in (None, "-") and sys.stdout.isatty():
        raise ExperimentError("pcapng is not for a terminal: give a file with -o OUT")
    files = [file for name in names for file in expand(name)]
    if len(files) != 1:
        raise ExperimentError(
            f"{out or '-'}: a pcapng file has the packets of one capture, got {len(files)} captures"
        )
    annotate(files[0], out, say)
    return True
