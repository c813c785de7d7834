# SPDX-License-Identifier: BSD-3-Clause
"""`midcall captures`: the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import CORPUS, JSON
from midcall.experiments.cli.output import give, say, sentences, tell
from midcall.experiments.cli.record import record_captures

app = typer.Typer(
    name="captures",
    help="The catalogue of captures: add your own, list, check and fetch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("add")
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
        from midcall.captures.own.add import add
        from midcall.captures.own.privacy import Privacy

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
        value, result = kept.model_dump(mode="json"), [words]
        if suggest:
            from midcall.experiments.accuracy import suggest as suggesting

            value["suggestions"] = suggesting.suggest(kept)
            result += suggesting.lines(value["suggestions"])
        give(as_json, value, result)


@app.command("anonymise")
def anonymise_capture(
    pcap: Annotated[Path, typer.Argument(metavar="PCAP", help="A pcap or pcapng file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The pcap file to write.")],
    as_json: JSON = False,
) -> None:
    """Write a copy with other addresses: prefixes kept, also within STUN, SDP and DNS.

    Names, numbers and other text in it stay. Example: midcall captures anonymise call.pcap out.pcap
    """
    with sentences():
        from midcall.captures.own.add import anonymise

        written = anonymise(pcap, out)
        give(as_json, {"file": out, "packets": written}, [f"{out}: {written} packets"])


@app.command("list")
def list_captures(as_json: JSON = False) -> None:
    """List every catalogued capture.

    Example: midcall captures list --json
    """
    with sentences():
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.cli import capture_lists

        found = load()
        rows = [capture_lists.row(one, found.origins) for one in found.captures]
        give(as_json, rows, [capture_lists.table(found)])


@app.command("show")
def show_capture(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name.", autocompletion=completion.captures)
    ],
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Show one capture: its facts, its calls, its labelled flows.

    Of a call that was captured at both ends, also what the path did: loss and delay variation each
    way, and what NAT rewrote. Example: midcall captures show sample-whatsapp-audio
    """
    with sentences():
        from midcall.captures.fetch.fetch import obtain
        from midcall.captures.own.add import show
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.cli import capture_lists
        from midcall.experiments.measure import both_ends

        known = load()
        found, paths = show(name), obtain(known, corpus=corpus, offline=True).paths
        path, ends = paths.get(found.capture.sha256), None
        found = found._replace(path=found.path or path)
        if found.capture.other_end:
            other = paths.get(known.named(found.capture.other_end).sha256)
            ends = both_ends.compared(Path(path), Path(other)) if path and other else None
        result = capture_lists.value(found, known.origins, ends)
        give(as_json, result, [capture_lists.details(found, known.origins, ends)])


@app.command("check")
def check_captures(as_json: JSON = False) -> None:
    """Check the catalogue, its labels and its calls; tell every problem.

    Example: midcall captures check
    """
    with sentences():
        from midcall.captures.truth.catalogue import check, load

        tell(as_json, check(), f"{len(load().captures)} captures, no problem found")


@app.command("remove")
def remove_capture(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A capture that you added.")],
    as_json: JSON = False,
) -> None:
    """Remove a capture that you added, with its copy and its labels.

    Example: midcall captures remove mycall
    """
    with sentences():
        from midcall.captures.own.add import remove

        gone = remove(name)
        give(as_json, {"removed": gone.name}, [f"removed {gone.name}"])


@app.command("fetch")
def fetch_captures(
    corpus: CORPUS = None,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again what failed lately.")] = False,
    as_json: JSON = False,
) -> None:
    """Obtain every catalogued capture and say what is missing, and why.

    Example: midcall captures fetch --corpus ~/pcaps
    """
    with sentences(resumes=True):
        from midcall.captures.fetch.fetch import obtain, summary
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.jobs.progress import Fetching

        catalogue, fetching = load(), Fetching()
        try:
            had = obtain(catalogue, corpus, progress=fetching, retry=retry)
        finally:
            fetching.close()
        for notice in had.notices:
            say(f"midcall: {notice}")
        give(as_json, had._asdict(), summary(catalogue, had))


app.command("record")(record_captures)
