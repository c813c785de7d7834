# SPDX-License-Identifier: BSD-3-Clause
"""`midcall captures`: the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midcall.access import ACCESS_WORDS
from midcall.apps import APPS
from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import (
    CAPTURE_HELP,
    CORPUS,
    FLOW_HELP,
    HELP,
    JSON,
    located,
)
from midcall.experiments.cli.output import give, say, sentences, tell
from midcall.experiments.cli.record import record_captures

if TYPE_CHECKING:
    from midcall.captures.own.privacy import Privacy

app = typer.Typer(
    name="captures",
    help="The catalogue of captures: add, list, check, fetch, record.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
)


AccessOption = Annotated[
    str | None, typer.Option("--access", help=f"Access network: {ACCESS_WORDS}, unknown.")
]
YearOption = Annotated[int | None, typer.Option("--year", help="Year (default: of its packets).")]
FlowsOption = Annotated[
    list[str] | None,
    typer.Option("--flow", help=f"A media flow of the call, repeatable: {FLOW_HELP}."),
]


@app.command("add")
def add_capture(
    pcap: Annotated[
        Path,
        typer.Argument(
            metavar="PCAP",
            help="A capture of one call (also .gz, .zst, .xz, .bz2), or - for the standard input. "
            f"A file is {CAPTURE_HELP}.",
        ),
    ],
    application: Annotated[
        str | None,
        typer.Option(
            "--app",
            help="The app of the call, none for innocent traffic (default: of the pack): "
            + ", ".join(APPS)
            + ".",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of the call: audio, video or unknown (default: of the pack)."),
    ] = None,
    flow: FlowsOption = None,
    access: AccessOption = None,
    year: YearOption = None,
    licence: Annotated[str | None, typer.Option(help="Its licence (default: private).")] = None,
    name: Annotated[str | None, typer.Option(help="Its name (default: the file's).")] = None,
    anonymise: Annotated[
        bool, typer.Option("--anonymise", help="Replace addresses and names in the copy.")
    ] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="List the classifier's verdict on each flow.")
    ] = False,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Add a capture of your own; it stays on this machine.

    Without --flow, only the call as a whole is scored (recognised, blocked), not its flows. The
    list of --suggest helps to choose --flow; it never counts as truth. A pack (see captures pack)
    brings its truth with it.
    Example: midcall captures add call.pcap --app whatsapp --kind audio --flow 12
    """
    with sentences(place=""):
        from midcall.captures.own.add import add

        pcap = Path(located(str(pcap), corpus))
        capture = add(
            pcap, application, kind, flow, access, year, licence, name,
            anonymise=anonymise, confirm=lambda report: warned(report, pcap, anonymise),
        )  # fmt: skip
        message = f"added {capture.name}: {capture.app} {capture.kind}, {capture.packets} packets"
        value, output = capture.model_dump(mode="json"), [message]
        if suggest:
            from midcall.experiments.accuracy import suggest as suggesting

            value["suggestions"] = suggesting.suggest(capture)
            output += suggesting.lines(value["suggestions"])
        give(as_json, value, output)


def warned(report: Privacy, pcap: Path, anonymise: bool) -> bool:
    """Print what personal data a capture holds; returns True, so that it is added."""
    from midcall.captures.own.pack_format import read_pack

    replaced = anonymise or (str(pcap) != "-" and read_pack(pcap) is not None)
    for line in report.sentences(replaced):
        say(f"privacy: {line}")
    return True


@app.command("anonymise")
def anonymise_capture(
    pcap: Annotated[
        Path,
        typer.Argument(metavar="PCAP", help=f"A pcap or pcapng file: {CAPTURE_HELP}."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The pcap file to write.")],
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Write a copy of a capture with its addresses, names, numbers and tokens replaced.

    Addresses with a common prefix keep one; every length stays. Names of public services stay.
    Nothing is checked: captures pack does so.
    Example: midcall captures anonymise call.pcap out.pcap
    """
    with sentences(place=""):
        from midcall.captures.own.add import anonymise

        written = anonymise(Path(located(str(pcap), corpus)), out)
        give(as_json, {"file": out, "packets": written}, [f"{out}: {written} packets"])


@app.command("pack")
def pack_capture(
    pcap: Annotated[
        Path,
        typer.Argument(
            metavar="PCAP",
            help=f"A pcap or pcapng file: {CAPTURE_HELP}; or - for the standard input.",
        ),
    ],
    application: Annotated[
        str, typer.Option("--app", help="The app of the call; none for innocent traffic.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The pcapng file to write.")],
    kind: Annotated[str, typer.Option(help="audio, video or unknown.")] = "unknown",
    flow: FlowsOption = None,
    role: Annotated[
        list[str] | None,
        typer.Option(help="Of each --flow in order: media (default), setup, control, messaging."),
    ] = None,
    access: AccessOption = None,
    year: YearOption = None,
    licence: Annotated[str, typer.Option(help="Licence under which others get it.")] = "CC0-1.0",
    consent: Annotated[str, typer.Option(help="Who agreed to its publication.")] = "",
    made_by: Annotated[str, typer.Option(help="Who made it, as you want to be named.")] = "",
    shift_days: Annotated[
        int, typer.Option(help="Move the clock by so many days; the number is not stored.")
    ] = 0,
    declare: Annotated[
        list[str] | None,
        typer.Option(help="A value that may stay although the checker finds it, repeatable."),
    ] = None,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Write a capture that can be shared: pseudonyms, a proof, and the truth in one pcapng.

    A checker looks for every original address, name and token in the copy. If it finds one,
    nothing is written. Read docs/howto/share-a-capture.md on what sizes and times still tell.
    Example: midcall captures pack call.pcap --app whatsapp --kind audio --flow 12 -o share.pcapng
    """
    with sentences(place=""):
        from midcall.captures.own.pack import Claim, pack
        from midcall.experiments.cli.packs import pack_lines

        claim = Claim(licence, consent, made_by, tuple(declare or ()))
        truth = pack(
            Path(located(str(pcap), corpus)),
            out,
            application,
            kind,
            flow or (),
            role or (),
            access,
            year,
            shift_days,
            claim,
        )
        give(as_json, truth.model_dump(mode="json"), [f"{out}: packed", *pack_lines(truth)])


@app.command("unpack")
def unpack_capture(
    packed: Annotated[Path, typer.Argument(metavar="PACK", help="A pack.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write its packets to this pcapng file.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show the truth in a pack, and check that it is about these packets.

    Example: midcall captures unpack share.pcapng
    """
    with sentences(place=""):
        from midcall.experiments.cli.packs import pack_lines, unpacked

        truth = unpacked(packed, out)
        give(as_json, truth.model_dump(mode="json"), pack_lines(truth))


@app.command("list")
def list_captures(as_json: JSON = False) -> None:
    """List every catalogued capture.

    Example: midcall captures list --json
    """
    with sentences(place=""):
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.cli import capture_lists

        catalogue = load()
        rows = [capture_lists.row(one, catalogue.origins) for one in catalogue.captures]
        give(as_json, rows, [capture_lists.table(catalogue)])


@app.command("show")
def show_capture(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Its name, or its file: a path, or a path in the folder of --corpus.",
            autocompletion=completion.captures,
        ),
    ],
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Show one capture: its facts, calls and labelled flows.

    For a call that was captured at both ends also the effects of the path: loss and delay
    variation in each direction, and addresses that NAT changed.
    Example: midcall captures show sample-whatsapp-audio
    """
    with sentences(place=""):
        from midcall.captures.fetch.fetch import obtain
        from midcall.captures.fetch.locate import catalogued
        from midcall.captures.own.add import show
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.cli import capture_lists
        from midcall.experiments.measure import both_ends

        catalogue = load()
        shown = show(catalogued(name, corpus).name)
        paths = obtain(catalogue, corpus=corpus, offline=True).paths
        path, ends = paths.get(shown.capture.sha256), None
        shown = shown._replace(path=shown.path or path)
        if shown.capture.other_end:
            other = paths.get(catalogue.named(shown.capture.other_end).sha256)
            ends = both_ends.compared(Path(path), Path(other)) if path and other else None
        result = capture_lists.value(shown, catalogue.origins, ends)
        give(as_json, result, [capture_lists.details(shown, catalogue.origins, ends)])


@app.command("check")
def check_captures(as_json: JSON = False) -> None:
    """Check the catalogue, its labels and its calls.

    Example: midcall captures check
    """
    with sentences(place=""):
        from midcall.captures.truth.catalogue import check, load

        tell(as_json, check(), f"{len(load().captures)} captures, no problem found")


@app.command("remove")
def remove_capture(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A capture that you added.")],
    as_json: JSON = False,
) -> None:
    """Remove an added capture with its copy and its labels.

    Example: midcall captures remove mycall
    """
    with sentences(place=""):
        from midcall.captures.own.add import remove

        removed = remove(name)
        give(as_json, {"removed": removed.name}, [f"removed {removed.name}"])


@app.command("fetch")
def fetch_captures(
    corpus: CORPUS = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry recent failures.")] = False,
    as_json: JSON = False,
) -> None:
    """Fetch every catalogued capture and list missing ones.

    Example: midcall captures fetch --corpus ~/pcaps
    """
    with sentences(resumes=True, place=""):
        from midcall.captures.fetch.fetch import obtain, summary
        from midcall.captures.truth.catalogue import load
        from midcall.experiments.jobs.progress import Fetching

        catalogue, fetching = load(), Fetching()
        try:
            obtained = obtain(catalogue, corpus, progress=fetching, retry=retry)
        finally:
            fetching.close()
        for notice in obtained.notices:
            say(f"midcall: {notice}")
        give(as_json, obtained._asdict(), summary(catalogue, obtained))


app.command("record")(record_captures)
