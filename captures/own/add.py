# SPDX-License-Identifier: BSD-3-Clause
"""Add the user's own captures to a local catalogue that git ignores.

Nothing leaves the machine. The capture is copied (with its addresses replaced, if requested) to
`captures/local/pcaps/`, and its table, labels and call are written to `captures/local/`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from midcall.access import CAPTURED_ACCESS, CapturedAccess
from midcall.apps import APPS
from midcall.captures.fetch.fetch import cache_folder, sum_of
from midcall.captures.own.pack_format import Pack, digest, read_pack
from midcall.captures.own.privacy import Privacy, privacy
from midcall.captures.own.sharing import shared
from midcall.captures.packets.flow_names import FILTER_FORM, chosen, parse
from midcall.captures.packets.headers import Flow, flows, written
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.packets.standard_input import held
from midcall.captures.packets.streams import frames_of_stream
from midcall.captures.packets.writer import write_pcap
from midcall.captures.truth.calls import TIMER_MODELS, Call, CallFile, calls, write_calls
from midcall.captures.truth.catalogue import (
    Capture,
    Catalogue,
    CatalogueFile,
    Change,
    home_name,
    load,
    write_catalogue,
)
from midcall.captures.truth.labels import Label, label_file, labels, write_labels
from midcall.captures.truth.paths import homes, local
from midcall.captures.truth.strict_toml import hint, read_table
from midcall.errors import CaptureError

Kind = Literal["audio", "video", "unknown"]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
ENDING = re.compile(r"\.(pcap|pcapng|cap)(\.(gz|zst|xz|bz2))?$", re.I)
FLOW_FORM = f"a frame number, 'udp 192.0.2.1:5000-198.51.100.2:3478', or {FILTER_FORM}"


class Shown(NamedTuple):
    """A capture with its labels and calls; `path` is None if the file is not on this machine."""

    capture: Capture
    path: Path | None
    labels: list[Label]
    calls: list[Call]


def add(
    path: str | os.PathLike[str],
    app: str | None = None,
    kind: str | None = None,
    flows: Iterable[str] | None = None,
    access: str | None = None,
    year: int | None = None,
    licence: str | None = None,
    name: str | None = None,
    group: str | None = None,
    anonymise: bool = False,
    confirm: Callable[[Privacy], bool] = lambda _found: True,
) -> Capture:
    """Add a capture of one call to the user's catalogue and return its table.

    app: the app called with, or "none" for innocent traffic; kind: audio, video or unknown; None:
    what a pack says (captures.own.pack), other captures need an app, and their kind is unknown;
    flows: the call's media flows, each a frame number (any frame of it), "proto
    address:port-address:port" or a display filter of Wireshark (captures.packets.flow_names) -
    without them only the call is labelled, and its flows are not scored; confirm: called with the
    personal data in the capture before anything is copied; if it returns False, nothing is added.
    Raises CaptureError with every problem of the arguments, one a line. The path `-` is the
    standard input.
    """
    with held(path) as capture:
        return add_file(
            capture.path, capture.shown, app, kind, flows, access, year, licence, name, group,
            anonymise, confirm,
        )  # fmt: skip


def add_file(
    source: Path,
    shown: str,
    app: str | None,
    kind: str | None,
    flows: Iterable[str] | None,
    access: str | None,
    year: int | None,
    licence: str | None,
    name: str | None,
    group: str | None,
    anonymise: bool,
    confirm: Callable[[Privacy], bool],
) -> Capture:
    """Add a file, see `add`; shown: its name in messages."""
    flow_names = [flow.strip() for flow in flows or ()]
    truth = read_pack(source) if source.is_file() else None
    if truth is not None:
        app, kind = app or truth.app, kind or truth.kind
        access, year = access or truth.access, year if year is not None else truth.year
        licence = licence or truth.licence
    if app is None:
        raise CaptureError(f"{shown}: the app of the call is missing: give --app (it is no pack)")
    kind = kind or ("none" if app == "none" else "unknown")
    problems = argument_problems(app, kind, access, year, name)
    if problems:
        raise CaptureError("\n".join(f"{shown}: {problem}" for problem in problems))
    packets, _ = read_with_notices(source, shown)
    if packets.total == 0:
        raise CaptureError(f"{shown}: holds no packets, there is nothing to add")
    catalogue = load()
    known = catalogue.by_sha256().get(sum_of(source))
    if known is not None:
        raise CaptureError(f"{shown}: is already catalogued, as {known.name}")
    media = [(flow, "media") for flow in named_flows(shown, packets, flow_names, app)]
    if truth is not None:
        media = media or packed_flows(shown, packets, truth)
    if not confirm(privacy(packets)):
        raise CaptureError(f"{shown}: not added, as was answered")
    title = free_name(shown, name, catalogue)
    started: list[Capture] = []
    try:
        target = place(source, title, packets, anonymise)
        capture = table_of(
            title, target, packets, app, kind, access, year, licence, group, anonymise
        )
        if truth is not None:
            capture = with_claims(capture, truth)
        started.append(capture)
        write_truth(capture, media)
        save([*own(), capture])
    except BaseException as error:
        for one in started:
            forget(one)
        if isinstance(error, OSError):
            raise CaptureError(f"{shown}: cannot be added: {error.strerror or error}") from None
        raise
    return capture


def anonymise(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write an anonymised copy of a capture as pcap; returns its number of packets.

    Raises CaptureError if the copy cannot be written.
    """
    source, target = Path(path), Path(out)
    if target.exists():
        raise CaptureError(f"{target}: exists already; give another name")
    packets, _ = read_with_notices(source)
    if packets.total and len(set(packets.link.tolist())) > 1:
        raise CaptureError(f"{source}: holds several link types; one is expected")
    try:
        write_pcap(target, shared(packets).packets, nanoseconds=True)
    except OSError as error:
        raise CaptureError(f"{target}: cannot be written: {error.strerror or error}") from None
    return packets.total


def argument_problems(
    app: str, kind: str, access: str | None, year: int | None, name: str | None
) -> list[str]:
    """Return the problems of the arguments that describe a capture, [] for none."""
    problems = []
    for key, got, choices in (
        ("app", app, APPS),
        ("kind", kind, (*get_args(Kind), "none") if app == "none" else get_args(Kind)),
        ("access", access or "unknown", CAPTURED_ACCESS),
    ):
        if got not in choices:
            suggestion = hint(got, list(choices))
            problems.append(f"{key}: got {got!r}, expected one of {', '.join(choices)}{suggestion}")
    if year is not None and not 1980 <= year <= 2100:
        problems.append(f"year: got {year}, expected one from 1980 to 2100")
    if name is not None and not NAME.match(name):
        problems.append(f"name: got {name!r}, expected letters, digits, '_', '-' and '.'")
    return problems


def free_name(source: str, name: str | None, catalogue: Catalogue) -> str:
    """Return the name of a new capture: `name`, else a unique one made from `source`, the file's.

    Raises CaptureError if `name` is taken.
    """
    taken = {capture.name for capture in catalogue.captures}
    if name is not None:
        if name in taken:
            raise CaptureError(f"{source}: the name {name} is taken; give another one")
        return name
    bare = ENDING.sub("", os.path.basename(source))
    stem = re.sub(r"[^A-Za-z0-9_.\-]+", "-", bare).strip("-._") or "capture"
    title, count = stem, 1
    while title in taken:
        count += 1
        title = f"{stem}-{count}"
    return title


def place(source: Path, title: str, packets: Packets, anonymise: bool) -> Path:
    """Copy a capture to the user's folder and return its new path.

    Raises CaptureError if a capture of several link types is to be anonymised.
    """
    folder = local().files
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    several = len({int(link) for link in packets.link}) > 1
    if anonymise and several:
        raise CaptureError(f"{source}: holds several link types; --anonymise takes one")
    ending = None if anonymise else ENDING.search(source.name)
    target = folder / f"{title}{ending.group() if ending else '.pcap'}"
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        part = Path(workspace, "part")
        if anonymise:
            write_pcap(part, shared(packets).packets, nanoseconds=True)
        else:
            shutil.copyfile(source, part)
        os.replace(part, target)
    return target


def table_of(
    title: str,
    target: Path,
    packets: Packets,
    app: str,
    kind: str,
    access: str | None,
    year: int | None,
    licence: str | None,
    group: str | None,
    anonymise: bool,
) -> Capture:
    """Return the table of a capture that was copied to the user's folder."""
    innocent = app == "none"
    return Capture(
        name=title,
        file=target.name,
        sha256=sum_of(target),
        bytes=target.stat().st_size,
        packets=packets.total,
        role="innocent" if innocent else "call",
        app=app,
        kind="none" if innocent else checked_kind(kind),
        media=not innocent,
        year=year if year is not None else year_of(packets),
        access=checked_access(access),
        group=group or f"added-{title}",
        licence=licence or "private: not to be published",
        changed=changes(packets, anonymise),
        added=True,
    )


def with_claims(capture: Capture, truth: Pack) -> Capture:
    """Return the table of a packed capture with what its maker said of it."""
    changed: list[Change] = ["addresses", "names"]
    changed += ["times"] if truth.clock != "as captured" else []
    about = [f"Shared by {truth.made_by}."] if truth.made_by else []
    about += [f"Consent: {truth.consent}"] if truth.consent else []
    new = {"changed": [*changed, *capture.changed], "notes": " ".join(about)}
    return capture.model_copy(update=new)


def packed_flows(source: str, packets: Packets, truth: Pack) -> list[tuple[Flow, str]]:
    """Return the flows that a pack names, with their roles.

    Raises CaptureError if its packets are not those that its truth is about.
    """
    if digest(packets) != truth.packets_sha256:
        raise CaptureError(
            f"{source}: its packets are not those that were packed, so its truth may be wrong; "
            "obtain the file again"
        )
    by_frame = {flow.frame: flow for flow in flows(packets)}
    lost = [flow.frame for flow in truth.flows if flow.frame not in by_frame]
    if lost:
        raise CaptureError(f"{source}: its truth names frame {lost[0]}, which begins no flow")
    return [(by_frame[flow.frame], flow.role) for flow in truth.flows]


#: Octets of a frame that hold every header that the lab's rules read, tunnels not counted: Ethernet
#: with a tag, IPv6, TCP with options, and the first 20 octets of payload.
HEADERS = 96


def changes(packets: Packets, anonymise: bool) -> list[Change]:
    """Return in what a capture differs from the packets on the wire."""
    result: list[Change] = ["addresses", "names"] if anonymise else []
    cut = packets.captured < packets.wire
    if bool(cut.any()):
        short = int(packets.captured[cut].min()) < HEADERS
        result += ["payload", "tails"] if short else ["tails"]
    return result


def checked_kind(kind: str) -> Kind:
    """Return a kind of call as its type."""
    return next(choice for choice in get_args(Kind) if choice == kind)


def checked_access(access: str | None) -> CapturedAccess:
    """Return an access network as its type."""
    known = (choice for choice in CAPTURED_ACCESS if choice == (access or "unknown"))
    return next(known)


def year_of(packets: Packets) -> int | None:
    """Return the year of the first packet, None if its clock is implausible."""
    first = int(packets.time[0]) // 1_000_000_000
    this = datetime.datetime.now(datetime.UTC).year
    year = datetime.datetime.fromtimestamp(first, datetime.UTC).year if first >= 0 else 1970
    return year if 1990 <= year <= this else None


# ---- truth


def named_flows(
    source: str, packets: Packets, flow_names: list[str], app: str | None
) -> list[Flow]:
    """Return the named flows; raises CaptureError with each one that does not exist."""
    if not flow_names:
        return []
    if app == "none":
        raise CaptureError(f"{source}: flows are named, but an innocent capture has no call flows")
    capture_flows, problems = flows(packets), []
    chosen: dict[int, Flow] = {}
    for text in flow_names:
        flow, problem = one_flow(text, capture_flows, packets)
        if flow is None:
            problems.append(f"{source}: flow {text!r}: {problem}")
        else:
            chosen[flow.frame] = flow
    if problems:
        raise CaptureError("\n".join(problems))
    return list(chosen.values())


def one_flow(text: str, capture_flows: list[Flow], packets: Packets) -> tuple[Flow | None, str]:
    """Return (flow, "") for a text that names one, else (None, problem)."""

    def position(frame: int) -> int:
        flow, _ = flow_of_frame(frame, capture_flows, packets)
        return -1 if flow is None else capture_flows.index(flow)

    try:
        name = parse(text, FLOW_FORM)
        if name.number is not None:
            return flow_of_frame(name.number, capture_flows, packets)
        found = chosen(
            name, capture_flows, position, lambda *stream: frames_of_stream([packets], *stream)
        )
    except ValueError as error:
        return None, str(error)
    if len(found) > 1:
        frames = ", ".join(str(capture_flows[at].frame) for at in found[:5])
        return None, (
            f"names {len(found)} flows, with the first frames {frames}"
            f"{' ...' if len(found) > 5 else ''}; expected one flow"
        )
    if found:
        return capture_flows[found[0]], ""
    largest = max(capture_flows, key=lambda flow: flow.packets, default=None)
    if largest is None:
        return None, "the capture holds no flows"
    most = f"{largest.proto} {written(largest.source)}-{written(largest.target)}"
    return None, f"no such flow; the busiest of its {len(capture_flows)} is '{most}'"


def flow_of_frame(
    frame: int, capture_flows: list[Flow], packets: Packets
) -> tuple[Flow | None, str]:
    """Return (flow, "") of a frame, counted from 1, else (None, problem)."""
    if not 1 <= frame <= packets.total:
        return None, f"the capture has frames 1 to {packets.total}"
    alone = flows(packets.take(slice(frame - 1, frame)))
    for flow in capture_flows:
        if alone and flow.proto == alone[0].proto:
            if {flow.source, flow.target} == {alone[0].source, alone[0].target}:
                return flow, ""
    return None, "that frame is of no flow"


def write_truth(capture: Capture, media: list[tuple[Flow, str]]) -> None:
    """Write the labels (where flows were named) and the call of a capture."""
    if capture.role == "innocent":
        return
    call, kind = f"{capture.name}-1", checked_kind(capture.kind)
    if media:
        rows = [
            Label(flow.frame, flow.proto, flow.packets, capture.app, role, call, "high",
                  "named by the user")
            for flow, role in media
        ]  # fmt: skip
        write_labels(label_file(local(), capture.sha256), rows)
    one = Call(
        id=call,
        app=capture.app,
        kind=kind,
        media=frames_of(media, "media"),
        setup=frames_of(media, "setup"),
        control=frames_of(media, "control"),
        signalling=frames_of(media, "messaging"),
        inferred=True,
        timer_models=TIMER_MODELS,
        timer_source="not documented",
        note="" if media else "The flows of the call were not named.",
    )
    call_file = CallFile(capture=capture.name, sha256=capture.sha256, calls=[one])
    write_calls(local().calls / f"{capture.name}.toml", call_file)


def frames_of(named: list[tuple[Flow, str]], wanted: str) -> list[int]:
    """Return the first frames of the flows of a role, in order."""
    return sorted(flow.frame for flow, role in named if role == wanted)


# ---- the user's catalogue


def own() -> list[Capture]:
    """Return the captures that the user added, in order of addition."""
    path = local().catalogue
    if not path.exists():
        return []
    table = read_table(path, CatalogueFile)
    return [capture.model_copy(update={"added": True}) for capture in table.captures]


def save(captures: list[Capture]) -> None:
    """Write the user's catalogue, whole or not at all."""
    path = local().catalogue
    part = path.with_suffix(".part")
    write_catalogue(part, Catalogue(captures, []))
    os.replace(part, path)


def remove(name: str) -> Capture:
    """Remove a capture that the user added, with its copy and its truth.

    Raises CaptureError for an unknown name.
    """
    captures = own()
    for capture in captures:
        if capture.name == name:
            save([one for one in captures if one is not capture])
            forget(capture)
            return capture
    suggestion = hint(name, [capture.name for capture in captures])
    raise CaptureError(
        f"no capture named {name!r} was added{suggestion}; only added ones can be removed"
    )


def cached(capture: Capture) -> Path:
    """Return the path of a capture in the cache."""
    return cache_folder() / capture.sha256


def forget(capture: Capture) -> None:
    """Delete the copy and the truth of a capture that the user added."""
    files = local().files
    assert files is not None
    leftovers = [files / capture.file, label_file(local(), capture.sha256)]
    leftovers.append(local().calls / f"{capture.name}.toml")
    leftovers.append(local().folder / "suggestions" / f"{capture.sha256}.csv")
    for path in leftovers:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def show(name: str) -> Shown:
    """Return a capture of any catalogue with its truth; raises CaptureError for an unknown name."""
    capture = load().named(name)
    home = next(one for one in homes() if one.name == home_name(capture))
    path = cached(capture) if home.files is None else home.files / capture.file
    file = path if path.is_file() else None
    return Shown(capture, file, labels(capture.sha256), calls(capture.sha256))
