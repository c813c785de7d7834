# SPDX-License-Identifier: BSD-3-Clause
"""Make a capture to share: map what tells about people, prove it, and write packets with truth."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from midcall.captures.own.add import (
    argument_problems,
    checked_access,
    checked_kind,
    named_flows,
    year_of,
)
from midcall.captures.own.leaks import Check, Hit, check
from midcall.captures.own.pack_format import (
    ROLES,
    Broken,
    Checked,
    Kept,
    Pack,
    PackedFlow,
    Role,
    Times,
    digest,
    write_pack,
)
from midcall.captures.own.sharing import Shared, shared
from midcall.captures.packets.headers import Flow, flows, of_flows, written
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.packets.standard_input import held
from midcall.errors import CaptureError

#: Hits that a refusal names.
SHOWN = 10
#: Mappings that are tried before a capture is refused.
DRAWS = 4


class Claim(NamedTuple):
    """What the maker of a pack says of it: words that no byte of the capture proves."""

    licence: str = "CC0-1.0"
    consent: str = ""
    made_by: str = ""
    declared: tuple[str, ...] = ()  # values that may stay although the checker finds them


def pack(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    app: str,
    kind: str,
    flow_names: Iterable[str] = (),
    roles: Iterable[str] = (),
    access: str | None = None,
    year: int | None = None,
    shift_days: int = 0,
    claim: Claim | None = None,
    key: bytes | None = None,
) -> Pack:
    """Write a capture to share to `out` and return its truth.

    flow_names: flows of the call, named as in `add`; roles: of each (one for all, none: media);
    key: None for a random one, which nobody keeps. Raises CaptureError, and writes nothing, if an
    argument is wrong or the checker finds an original value that was not declared.
    """
    with held(path) as capture:
        shown, target = capture.shown, Path(out)
        problems = argument_problems(app, kind, access, year, None)
        if problems:
            raise CaptureError("\n".join(f"{shown}: {problem}" for problem in problems))
        if target.exists():
            raise CaptureError(f"{target}: exists already; give another name")
        packets, _ = read_with_notices(capture.path, shown)
        if packets.total == 0:
            raise CaptureError(f"{shown}: holds no packets, there is nothing to share")
        named = each_named(shown, packets, [name.strip() for name in flow_names], list(roles), app)
        truth, copy = packed(shown, packets, app, kind, named, access, year, shift_days, claim, key)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as workspace:
            part = Path(workspace, "part")
            write_pack(part, copy, truth)
            os.replace(part, target)
    except OSError as error:
        raise CaptureError(f"{target}: cannot be written: {error.strerror or error}") from None
    return truth


def each_named(
    shown: str, packets: Packets, names: list[str], roles: list[str], app: str
) -> list[tuple[Flow, Role]]:
    """Return the named flows with their roles, each flow once."""
    result: dict[int, tuple[Flow, Role]] = {}
    for name, role in zip(names, role_names(len(names), roles), strict=True):
        for flow in named_flows(shown, packets, [name], app):
            result[flow.frame] = (flow, role)
    return list(result.values())


def packed(
    shown: str,
    packets: Packets,
    app: str,
    kind: str,
    named: list[tuple[Flow, Role]],
    access: str | None,
    year: int | None,
    shift_days: int,
    claim: Claim | None,
    key: bytes | None,
) -> tuple[Pack, Packets]:
    """Return the truth and the mapped packets; raises CaptureError if the checker finds more."""
    claim = claim or Claim()
    stays = sorted({value.lower() for value in claim.declared})
    made, result = checked_copy(shown, packets, shift_days, key, [one.encode() for one in stays])
    truth = Pack(
        format="midcall-pack",
        version=1,
        app=app,
        kind="none" if app == "none" else checked_kind(kind),
        access=checked_access(access),
        year=year if year is not None else year_of(made.packets),
        packets=made.packets.total,
        packets_sha256=digest(made.packets),
        flows=packed_flows(made.packets, named),
        call=times(made.packets, named),
        licence=claim.licence,
        consent=claim.consent,
        made_by=claim.made_by,
        made_with=f"midcall {version('midcall')}",
        mapped={kind: len(found) for kind, found in sorted(made.names.images.items())},
        kept=Kept(
            names=sorted(name.decode() for name in made.names.kept_names),
            networks=sorted(made.names.kept_prefixes),
            declared=stays,
            addresses="octets" if made.names.octets else "bits",
        ),
        broken=Broken(
            integrity=made.mapper.broken_integrity,
            media=made.mapper.scrambled_media,
            emptied=dict(made.mapper.emptied),
        ),
        clock="shifted by whole days" if shift_days else "as captured",
        check=checked(result),
    )
    return truth, made.packets


def checked_copy(
    shown: str, packets: Packets, shift_days: int, key: bytes | None, stays: list[bytes]
) -> tuple[Shared, Check]:
    """Return the mapped packets and their check; raises CaptureError if an original value is found.

    The image of one name can be, or end with, another original name: then the checker finds that
    name although nothing leaked. So a mapping with findings is drawn again, up to DRAWS times. A
    value that the mapper does not map is found in each of them.
    """
    base = key if key is not None else secrets.token_bytes(32)
    for draw in range(DRAWS):
        try:
            made = shared(packets, shift_days, base + bytes([draw] if draw else []))
        except CaptureError as error:
            raise CaptureError(f"{shown}: {error}") from None
        result = check(packets, made.packets, stays)
        if not result.found:
            return made, result
    raise CaptureError(refusal(shown, result.found))


def refusal(shown: str, found: list[Hit]) -> str:
    """Return why nothing was written: what the checker found, the first hits."""
    lines = [f"  {hit.line()}" for hit in found[:SHOWN]]
    more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"{shown}: nothing was written: {len(found)} original values are still in the copy; give "
        "--declare VALUE for each that tells nothing about anybody:\n" + "\n".join(lines) + more
    )


def checked(result: Check) -> Checked:
    """Return what a pack says of the check."""
    return Checked(
        values=dict(sorted(result.searched.items())),
        patterns=result.patterns,
        chance_hits=len(result.chance),
        chance_expected=float(f"{result.expected:.3g}"),
    )


def role_names(count: int, roles: list[str]) -> list[Role]:
    """Return a role for each of `count` flows; one role is for all, none means media.

    Raises CaptureError for an unknown role, or another number of them.
    """
    for role in roles:
        if role not in ROLES:
            raise CaptureError(f"role: got {role!r}, expected one of {', '.join(ROLES)}")
    if len(roles) not in (0, 1, count):
        raise CaptureError(f"role: got {len(roles)} for {count} flows; give one for each flow")
    names = roles * count if len(roles) == 1 else roles or ["media"] * count
    return [role for name in names for role in ROLES if role == name]


def packed_flows(packets: Packets, named: list[tuple[Flow, Role]]) -> list[PackedFlow]:
    """Return the named flows as they are in the mapped packets."""
    by_frame = {flow.frame: flow for flow in flows(packets)}
    result = []
    for flow, role in named:
        new = by_frame[flow.frame]
        ends = [written(new.source), written(new.target)]
        result.append(
            PackedFlow(frame=new.frame, proto=new.proto, packets=new.packets, role=role, ends=ends)
        )
    return sorted(result, key=lambda flow: flow.frame)


def times(packets: Packets, named: list[tuple[Flow, Role]]) -> Times:
    """Return when the named flows begin and end; the whole capture if there are none."""
    by_frame = {flow.frame: flow for flow in flows(packets)}
    chosen = of_flows(packets, [by_frame[flow.frame] for flow, _ in named]) if named else packets
    first = int(packets.time.min())
    begin, end = int(chosen.time.min()), int(chosen.time.max())
    return Times(begin_ms=(begin - first) // 1_000_000, end_ms=(end - first) // 1_000_000)
