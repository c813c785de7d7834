# SPDX-License-Identifier: BSD-3-Clause
"""Packs as the command line shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midcall.captures.own.pack_format import Pack, digest, read_pack
from midcall.captures.packets.pcap import read
from midcall.captures.packets.writer import write_pcapng
from midcall.errors import CaptureError


def unpacked(path: Path, out: Path | None) -> Pack:
    """Return the truth of a pack; its packets are written to `out` if that is given.

    Raises CaptureError for a file that is no pack, or whose packets were changed.
    """
    packets, truth = read(path), read_pack(path)
    if truth is None:
        raise CaptureError(f"{path}: is a capture but no pack: its section header holds no truth")
    if digest(packets) != truth.packets_sha256:
        raise CaptureError(
            f"{path}: its packets are not those that were packed, so its truth may be wrong; "
            "obtain the file again"
        )
    if out is not None:
        if out.exists():
            raise CaptureError(f"{out}: exists already; give another name")
        write_pcapng(out, packets)
    return truth


def pack_lines(truth: Pack) -> Iterator[str]:
    """Yield a pack's truth as lines."""
    yield f"app {truth.app}, kind {truth.kind}, access {truth.access}, year {truth.year}"
    yield f"packets {truth.packets}, call from {truth.call.begin_ms} to {truth.call.end_ms} ms"
    for flow in truth.flows:
        ends = "-".join(flow.ends)
        yield f"flow {flow.frame}: {flow.proto} {ends}, {flow.packets} packets, {flow.role}"
    for key in ("licence", "consent", "made_by", "made_with", "clock"):
        value = getattr(truth, key)
        yield f"{key.replace('_', ' ')}: {value or 'not stated'}"
    yield f"mapped: {listed(truth.mapped)}"
    yield (
        f"kept: {', '.join(truth.kept.names) or 'no names'}; networks: "
        f"{', '.join(truth.kept.networks) or 'none'}; prefixes of whole {truth.kept.addresses}"
    )
    if truth.kept.declared:
        yield f"declared by its maker: {', '.join(truth.kept.declared)}"
    yield (
        f"broken: MESSAGE-INTEGRITY of {truth.broken.integrity} STUN messages, audio or video of "
        f"{truth.broken.media} RTP packets; emptied: {listed(truth.broken.emptied)}"
    )
    yield (
        f"checked: {listed(truth.check.values)} in {truth.check.patterns} forms; nothing found, "
        f"{truth.check.chance_hits} hits by chance where {truth.check.chance_expected} are expected"
    )


def listed(counts: dict[str, int]) -> str:
    """Return counts as text."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
