# SPDX-License-Identifier: BSD-3-Clause
"""The command line: `midcall`. Every command is a few lines around the noun that does the work.

Imports stand inside the commands, so that help and errors come at once. What a user can mend is
one sentence on the standard error and exit code 2; a run with failed cells ends with 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import completion, proofs
from experiments.aa_command import aa
from experiments.leak_command import bench_leaks
from experiments.localiser.command import localise
from experiments.record import record_captures

app = typer.Typer(
    name="midcall",
    help="Replay real calls through an emulated operator and measure what it sees and blocks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
captures_app = typer.Typer(
    name="captures",
    help="The catalogue of captures: add your own, list, check and fetch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(captures_app)
bench_app = typer.Typer(
    name="bench",
    help="Measure speed on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench_app)
policy_app = typer.Typer(
    name="policy",
    help="Operators' policies: check a file, show what ships, list a capture's fingerprints.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(policy_app)
runs_app = typer.Typer(
    name="runs",
    help="The folders of runs: list, show, clean.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(runs_app)
new_things = typer.Typer(
    name="new",
    help="Start from a template: a spec of your own, an app's fingerprints and their test.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(new_things)
RUNS = Annotated[Path, typer.Option(help="Where result folders are.")]
SPEC = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A shipped spec (morocco-2016) or a TOML file.",
        autocompletion=completion.specs,
    ),
]
CORPUS = Annotated[Path | None, typer.Option(help="A folder of captures, looked in first.")]
BACKEND = Annotated[
    str | None,
    typer.Option(help="virtual, live (root, Mininet), auto (default: as the spec says)."),
]
CLUSTER = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Work on Dask: tcp://scheduler:8786, or local (docs/cluster.md)."
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

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
def sentences() -> Iterator[None]:
    """Turn what a user can mend into one sentence and exit code 2, without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; what is finished is kept, the same command goes on from there")
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
    from captures.errors import CaptureError
    from classifier.errors import ClassifierError
    from experiments import shelf
    from experiments.errors import ExperimentError
    from testbed.errors import TestbedError

    if isinstance(error, CaptureError | ClassifierError | ExperimentError | TestbedError):
        return str(error)
    return shelf.told(error) if isinstance(error, OSError) else None


def quiet_pipe() -> None:
    """Send what is still to be printed nowhere: the reader of our pipe has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from experiments.provenance import midcall_version

        print(f"midcall {midcall_version()}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Replay real calls through an emulated operator and measure what it sees and blocks."""


@app.command()
def run(
    spec: SPEC,
    corpus: CORPUS = None,
    force: Annotated[bool, typer.Option(help="Do not reuse finished cells.")] = False,
    reveal: Annotated[bool, typer.Option(help="Write addresses in full.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Processes (default: all cores)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where result folders go.")] = Path("runs"),
    as_json: JSON = False,
    backend: BACKEND = None,
    cluster: CLUSTER = None,
) -> None:
    """Run an experiment: captures, verdicts, operators, report.

    Example: midcall run morocco-2016 --corpus ~/pcaps
    """
    with sentences():
        from experiments import runner, summary

        options = runner.Options(
            corpus, force, reveal, jobs or 0, runs, backend=backend, cluster=cluster
        )
        done = runner.run(spec, options)
        made = {"run": done.folder, "report": done.report, "failed_cells": done.failed}
        made |= {"summary": done.folder / "summary.json"}
        give(as_json, made, [*summary.lines(done.summary), done.report])
        if done.failed:
            say(f"midcall: {done.failed} cells failed: see cells.csv and run.log in {done.folder}")
            raise typer.Exit(FAILED)


@app.command()
def plan(
    spec: SPEC,
    corpus: CORPUS = None,
    backend: BACKEND = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Processes (default: all cores)."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Print the budget of an experiment before it runs: cells, captures, seconds, disk.

    Example: midcall plan live-morocco --backend live
    """
    with sentences():
        from experiments import plan as plans
        from experiments import runner

        options = runner.Options(corpus, jobs=jobs or 0, backend=backend)
        found = plans.plan(spec, options)
        value = {**found._asdict(), "spec": found.spec.model_dump(mode="json", by_alias=True)}
        give(as_json, value, plans.lines(found))


@app.command()
def evaluate(
    spec: SPEC = "morocco-2016",
    corpus: CORPUS = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Peers at once (default: cores)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where result folders go.")] = Path("runs"),
    peers: Annotated[
        str, typer.Option(help="all, none, or names: ndpi, nfstream, tshark (with commas).")
    ] = "all",
    regression: Annotated[
        int, typer.Option(min=0, metavar="N", help="Innocent flows crafted or re-addressed.")
    ] = 150_000,
    as_json: JSON = False,
) -> None:
    """Measure how the box sees under disturbance, beside baselines and peers.

    Peers are asked about every disturbance: some minutes the first time, their answers are kept.

    Example: midcall evaluate --corpus ~/pcaps
    """
    with sentences():
        from experiments import evaluate as evaluation

        options = evaluation.Options(corpus, jobs or 0, runs, peers=peers, flows=regression)
        done = evaluation.evaluate(spec, options)
        made = {"run": done.folder, "page": done.page, "summary": done.folder / "summary.json"}
        give(as_json, made, [*evaluation.lines(done.summary), done.page])


app.command()(proofs.fuzz)


@app.command("warm-up")
def warm_up() -> None:
    """Compile the packet path now, so that no later command has to (about half a minute, once)."""
    with sentences():
        import tempfile

        from experiments import runner

        with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
            place = Path(folder)
            runner.run(
                "smoke", runner.Options(None, False, False, 1, place / "runs", place / "cells")
            )


@app.command()
def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="pcap or pcapng files (also gzip), folders, or their URLs."
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json or parquet (default: by OUT, else table)."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="A file, - (default), or a folder as OUT/.")
    ] = None,
    cores: Annotated[
        int, typer.Option(min=1, max=2, help="2: a second core reads ahead; same verdicts.")
    ] = 1,
    cluster: CLUSTER = None,
) -> None:
    """Name every flow of captures: one row per bidirectional flow.

    A folder (-o OUT/) gets Parquet in parts, goes on where it was stopped, and can be filled by a
    cluster.

    Example: midcall classify call.pcapng --format csv -o flows.csv
    """
    with sentences():
        from experiments import classifying

        whole = classifying.run(files, form, out, cores, cluster)
    if not whole:
        raise typer.Exit(MENDABLE)


@app.command()
def explain(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A pcap or pcapng file (also gzip).")],
    flow: Annotated[
        str | None,
        typer.Option(help="A number of the list, or 'udp A:PORT-B:PORT' (default: first call)."),
    ] = None,
    packets: Annotated[
        int, typer.Option(min=0, metavar="N", help="Packets shown though nothing changed at them.")
    ] = 8,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    reveal: Annotated[
        bool, typer.Option(help="Show addresses, names and payload in full.")
    ] = False,
) -> None:
    """Tell packet by packet how a flow got its verdict, with the decisive bytes marked.

    Example: midcall explain call.pcapng --flow 2
    """
    with sentences():
        from experiments.explain import explain as explain_flow
        from experiments.transcript import write

        write(lambda: explain_flow(file, flow, packets, reveal), form, say)


app.command()(localise)
app.command()(aa)


@app.command()
def train(
    corpus: CORPUS = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Where early.npz and its card go.")
    ] = Path("runs/early"),
    as_json: JSON = False,
) -> None:
    """Train the early model (sizes, gaps, directions) on real captures; writes its card beside it.

    -o classifier/models replaces the committed one. Example: midcall train --corpus ~/pcaps
    """
    with sentences():
        from experiments import train as training

        arrays, page = training.train(corpus, out, lambda name: say(f"midcall train: {name}"))
        give(as_json, {"model": arrays, "card": page}, [arrays, page])


@app.command()
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="The folder of a run (default: the latest).",
            autocompletion=completion.run_folders,
        ),
    ] = Path("runs/latest"),
    reaction: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A CSV of date, operator, likes to draw beside it."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Draw the report of a run again, from its result files.

    Example: midcall report runs/latest --reaction likes.csv
    """
    with sentences():
        from experiments.report import render

        page = render(folder, reaction)
        give(as_json, {"run": page.parent, "report": page}, [page])


@app.command()
def doctor(as_json: JSON = False) -> None:
    """Say what is here, what is missing, and how to get it.

    Example: midcall doctor
    """
    with sentences():
        from experiments import doctor as doctors

        found = doctors.examine()
        give(as_json, [one._asdict() for one in found], [one.line for one in found])
        if any(finding.state == doctors.NEEDED for finding in found):
            raise typer.Exit(FAILED)


@app.command()
def conformance(as_json: JSON = False) -> None:
    """Play a scenario for every word of the policy language and hold each packet's fate against it.

    Example: midcall conformance
    """
    with sentences():
        from experiments import conformance as conform

        outcomes = conform.outcomes()
        give(as_json, conform.rows(outcomes), conform.lines(outcomes))
        if not all(outcome.passed for outcome in outcomes):
            raise typer.Exit(FAILED)


# ---- policies


@policy_app.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An operator's TOML file.")],
    as_json: JSON = False,
) -> None:
    """Tell every problem of an operator's file: unknown keys, rules that can never match, shadows.

    Example: midcall policy check testbed/operators/inwi.toml
    """
    with sentences():
        from testbed.lint import check

        tell(as_json, check(file), f"{file}: no problem found")


@policy_app.command("show")
def show_policy(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="An operator that ships, or a TOML file (else: list).",
            autocompletion=completion.operators,
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show an operator: its dated table, its hypotheses, and each rule with grade and source.

    Example: midcall policy show maroc-telecom
    """
    with sentences():
        from experiments import policies

        lines = policies.shown(name) if name else policies.listed()
        give(as_json, policies.plain(name) if as_json else None, lines)


@policy_app.command("hellos")
def list_hellos(
    capture: Annotated[str, typer.Argument(metavar="CAPTURE", help="A pcap or pcapng file.")],
    as_json: JSON = False,
) -> None:
    """List the ClientHello fingerprints of a capture, as `match.hello` takes them.

    Example: midcall policy hellos call.pcapng
    """
    with sentences():
        from experiments import policies

        found = policies.hellos(capture)
        give(as_json, [one._asdict() for one in found], [one.line for one in found])


# ---- bench


@bench_app.callback()
def bench_top() -> None:
    """Measure speed on this machine."""


@bench_app.command("live")
def bench_live(
    path: Annotated[
        list[str] | None,
        typer.Option(help="kernel, empty, classifier, classifier-spin, offload, ..."),
    ] = None,
    frames: Annotated[
        list[str] | None, typer.Option(help="A frame size in octets, or imix (default: 200).")
    ] = None,
    kpps: Annotated[
        list[int] | None, typer.Option(min=1, help="Rates to try, thousands of packets/s.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per rate and path.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of a trial; RFC 2544 asks for 60.")
    ] = 1.0,
    calls_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long a thousand calls are carried.")
    ] = 10.0,
    share_seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Length of the trials at 0.35 and 0.75 of the kernel's rate."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where result folders go.")] = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Measure the live box beside the kernel alone, and say which goals are met.

    Needs root. Example: sudo .venv/bin/midcall bench live --frames 200 --frames imix
    """
    with sentences():
        from experiments import bench_lines
        from experiments import bench_live as benches

        given = {"paths": path, "frames": frames, "kpps": kpps}
        chosen: dict[str, Any] = {name: tuple(value) for name, value in given.items() if value}
        options = benches.Options(
            trials=trials, seconds=seconds, calls_seconds=calls_seconds, runs=runs,
            share_seconds=share_seconds, **chosen,
        )  # fmt: skip
        told, where = benches.bench(options, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"folder": where, **told}, [*bench_lines.lines(told), where])


bench_app.command("leaks")(bench_leaks)
bench_app.command("soak")(proofs.soak)


# ---- captures


@app.command()
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A run: its folder or its name.", autocompletion=completion.runs
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B", help="The run to compare with it.", autocompletion=completion.runs
        ),
    ],
    runs: RUNS = Path("runs"),
    any_machine: Annotated[
        bool, typer.Option(help="Compare timings though the machines differ.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Say what run B does better or worse than run A, with intervals, and list every difference.

    Of live runs give several on each side, with commas: their differences are then tested.

    Example: midcall compare 20260101T1200 latest
    """
    with sentences():
        from experiments import compare as comparing
        from experiments import runs as folders
        from experiments import trials

        if "," in first + second:
            sides = [[folders.find(runs, one) for one in side.split(",")]
                     for side in (first, second)]  # fmt: skip
            tests = trials.compare(*sides)
            give(as_json, tests.value, trials.lines(tests))
            return
        before, after = folders.find(runs, first), folders.find(runs, second)
        found = comparing.compare(before, after, any_machine)
        give(as_json, found.value, comparing.lines(found))


@app.command()
def badge(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run: its folder or name.", autocompletion=completion.runs
        ),
    ] = "latest",
    operator: Annotated[str, typer.Option(help="Whose block is counted.")] = "maroc-telecom",
    access: Annotated[str, typer.Option(help="On which access network.")] = "4g",
    hypothesis: Annotated[
        str | None, typer.Option(help="The mechanism shown (default: the operator's first).")
    ] = None,
    day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The day shown (default: today).")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the files go.")] = Path("badge"),
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Write an embeddable counter, "day N of the block": SVG, HTML snippet, WordPress shortcode.

    Example: midcall badge latest --operator inwi --access 4g
    """
    with sentences():
        from experiments import badge as badges
        from experiments import runs as folders

        folder = folders.find(runs, name)
        shown = badges.a_day(day) if day else None
        found = badges.draw(folder, operator, access, hypothesis, shown)
        made = badges.write(found, out)
        give(as_json, {"files": made, **badges.row(found)}, made)


@runs_app.command("list")
def list_runs(runs: RUNS = Path("runs"), as_json: JSON = False) -> None:
    """List the runs, oldest first.

    Example: midcall runs list
    """
    with sentences():
        from experiments import runs as folders

        found = folders.listed(runs)
        give(as_json, [one.row for one in found], folders.lines(found))


@runs_app.command("show")
def show_run(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Its folder or name.", autocompletion=completion.runs),
    ] = "latest",
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Print the main figures of a run again.

    Example: midcall runs show latest
    """
    with sentences():
        from experiments import runs as folders
        from experiments import summary as summaries

        folder = folders.find(runs, name)
        found = folders.summary(folder)
        give(as_json, found, [] if as_json else [folder, *summaries.lines(found)])


@runs_app.command("clean")
def clean_runs(
    keep: Annotated[
        int, typer.Option(min=0, metavar="N", help="Newest runs of each spec that stay.")
    ] = 1,
    runs: RUNS = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are listed.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove old runs, all but the newest of each spec.

    Example: midcall runs clean --keep 2 --yes
    """
    with sentences():
        from experiments import runs as folders

        found = folders.spare(runs, keep)
        lines = folders.lines(found) if found else ["nothing to remove"]
        if found and yes:
            lines.append(f"removed {len(found)} runs, {folders.remove(found) / 1e6:.1f} MB")
        elif found:
            lines.append(f"{len(found)} runs would be removed; --yes removes them")
        give(as_json, {"removed": yes, "runs": [one.row for one in found]}, lines)


@new_things.command("spec")
def new_spec(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the study, as my-study.")],
    folder: Annotated[Path, typer.Option("-o", "--out", help="Where it goes.")] = Path("."),
    as_json: JSON = False,
) -> None:
    """Write a spec that runs as it is, to be changed.

    Example: midcall new spec my-study && midcall run my-study.toml
    """
    with sentences():
        from experiments import new

        made = new.new_spec(name, folder)
        give(as_json, {"files": [made]}, [made])


@new_things.command("app")
def new_app(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the app, as myapp.")],
    as_json: JSON = False,
) -> None:
    """Write an app's fingerprints and their test into this source tree; says what else to add.

    Example: midcall new app myapp
    """
    with sentences():
        from experiments import new

        made, todo = new.new_app(name)
        give(as_json, {"files": made, "todo": todo}, made)
        if not as_json:
            say("\n".join(["then by hand:", *(f"  {line}" for line in todo)]))


@captures_app.command("add")
def add_capture(
    pcap: Annotated[Path, typer.Argument(metavar="PCAP", help="A capture of one call.")],
    application: Annotated[
        str, typer.Option("--app", help="The app called with; none for innocent traffic.")
    ],
    kind: Annotated[str, typer.Option(help="audio, video or unknown.")] = "unknown",
    flow: Annotated[
        list[str] | None,
        typer.Option(help="A media flow of the call: a frame number, or 'udp A:PORT-B:PORT'."),
    ] = None,
    access: Annotated[
        str | None, typer.Option(help="Where it was taken: 3g, 4g, adsl, fibre, wifi, unknown.")
    ] = None,
    year: Annotated[int | None, typer.Option(help="When (default: by its clock).")] = None,
    licence: Annotated[str | None, typer.Option(help="Its licence (default: private).")] = None,
    name: Annotated[str | None, typer.Option(help="Its name (default: the file's).")] = None,
    anonymise: Annotated[
        bool, typer.Option("--anonymise", help="Replace addresses in the copy.")
    ] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="List what the classifier takes its flows for.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Add a capture of your own; it stays on this machine.

    Without --flow only whether the call is seen and blocked is scored, not its flows. What
    --suggest lists is a help to choose --flow by and never counts as truth.
    Example: midcall captures add call.pcap --app whatsapp --kind audio --flow 12
    """
    with sentences():
        from captures.add import add
        from captures.privacy import Privacy

        def warn(found: Privacy) -> bool:
            for line in found.sentences(anonymise):
                say(f"privacy: {line}")
            return True

        kept = add(
            pcap,
            application,
            "none" if application == "none" else kind,
            flow,
            access,
            year,
            licence,
            name,
            anonymise=anonymise,
            confirm=warn,
        )
        words = f"added {kept.name}: {kept.app} {kept.kind}, {kept.packets} packets"
        value, told = kept.model_dump(mode="json"), [words]
        if suggest:
            from experiments import suggest as suggesting

            value["suggestions"] = suggesting.suggest(kept)
            told += suggesting.lines(value["suggestions"])
        give(as_json, value, told)


@captures_app.command("anonymise")
def anonymise_capture(
    pcap: Annotated[Path, typer.Argument(metavar="PCAP", help="A pcap or pcapng file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The pcap file to write.")],
    as_json: JSON = False,
) -> None:
    """Write a copy with other addresses: prefixes kept, also within STUN, SDP and DNS.

    Names, numbers and other text in it stay. Example: midcall captures anonymise call.pcap out.pcap
    """
    with sentences():
        from captures.add import anonymise

        written = anonymise(pcap, out)
        give(as_json, {"file": out, "packets": written}, [f"{out}: {written} packets"])


@captures_app.command("list")
def list_captures(as_json: JSON = False) -> None:
    """List every catalogued capture.

    Example: midcall captures list --json
    """
    with sentences():
        from captures.catalogue import load
        from experiments import listing

        found = load().captures
        give(as_json, [listing.row(one) for one in found], [listing.table(found)])


@captures_app.command("show")
def show_capture(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name.", autocompletion=completion.captures)
    ],
    as_json: JSON = False,
) -> None:
    """Show one capture: its facts, its calls, its labelled flows.

    Example: midcall captures show sample-whatsapp-audio
    """
    with sentences():
        from captures.add import show
        from experiments import listing

        found = show(name)
        give(as_json, listing.value(found), [listing.details(found)])


@captures_app.command("check")
def check_captures(as_json: JSON = False) -> None:
    """Check the catalogue, its labels and its calls; tell every problem.

    Example: midcall captures check
    """
    with sentences():
        from captures.catalogue import check, load

        tell(as_json, check(), f"{len(load().captures)} captures, no problem found")


@captures_app.command("remove")
def remove_capture(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A capture that you added.")],
    as_json: JSON = False,
) -> None:
    """Remove a capture that you added, with its copy and its labels.

    Example: midcall captures remove mycall
    """
    with sentences():
        from captures.add import remove

        gone = remove(name)
        give(as_json, {"removed": gone.name}, [f"removed {gone.name}"])


@captures_app.command("fetch")
def fetch_captures(
    corpus: CORPUS = None,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again what failed lately.")] = False,
    as_json: JSON = False,
) -> None:
    """Obtain every catalogued capture and say what is missing, and why.

    Example: midcall captures fetch --corpus ~/pcaps
    """
    with sentences():
        from captures.catalogue import load
        from captures.sources import obtain, summary
        from experiments.progress import Fetching

        catalogue, fetching = load(), Fetching()
        try:
            had = obtain(catalogue, corpus, progress=fetching, retry=retry)
        finally:
            fetching.close()
        for notice in had.notices:
            say(f"midcall: {notice}")
        give(as_json, had._asdict(), summary(catalogue, had))


captures_app.command("record")(record_captures)


def main() -> None:
    """Run the command line."""
    app(prog_name="midcall")


if __name__ == "__main__":
    main()
