# SPDX-License-Identifier: BSD-3-Clause
"""Captures and their ground truth: packets, catalogue, labels, calls, download.

Imports nothing of the other folders. The package is also a function: `midcall.captures()` lists
captures (docs/decisions/014-captures-is-a-package-and-a-function.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from midcall.captures.fetch.capture_item import CaptureItem, Kind


class CapturesModule(ModuleType):
    """The package `midcall.captures`, which can be called."""

    def __call__(
        self,
        name: str | Iterable[str] | None = None,
        *,
        app: str | Iterable[str] | None = None,
        role: Literal["call", "innocent"] | None = None,
        kind: Kind | Iterable[Kind] | None = None,
        real_only: bool = False,
        missing: bool = False,
        corpus: str | os.PathLike[str] | None = None,
        fetch: bool = False,
    ) -> list[CaptureItem]:
        """Return the captures on this machine that pass every filter, sorted by name.

        Files are taken from the folder `corpus` (default: that which MIDCALL_CORPUS names), from
        earlier downloads, and from the project and the user's own folder. They are recognised by
        their SHA-256 sum, not by their names.

        name: a name or pattern (`sample-*`), or several; app: app(s) of `midcall.apps.APPS`; role:
        "call" for captures with a call, "innocent" for the others; kind: who made it: "catalogued"
        (other people), "sample" (this project, synthetic), "recorded" (real programs in the lab),
        "own" (the user); real_only: neither samples nor recordings of the lab; missing: also
        captures that are not here, whose `path` is None; fetch: download what is not here.

        Each item has `name`, `path`, `packets`, `flows`, `calls`, `truth`, `licence`, `sources` and
        `citation` (midcall.captures.fetch.capture_item.CaptureItem). Packets and truth are read
        when they are first used.

        Raises CaptureError for a name that no capture has, and for a `corpus` that is no folder.

        Examples:

        >>> import midcall
        >>> call, = midcall.captures("sample-whatsapp-audio")
        >>> call.truth.app, call.truth.role, call.licence
        ('whatsapp', 'call', 'CC0-1.0')
        >>> call.packets.total, call.packets.time.dtype, len(call.packets.frame(0))
        (698, dtype('int64'), 75)
        >>> [(flow.frame, flow.role) for flow in call.flows if flow.role == "media"]
        [(30, 'media'), (161, 'media')]
        >>> [(one.id, one.kind, one.media) for one in call.calls]
        [('call-1', 'audio', [30, 161])]
        >>> sorted({one.truth.app for one in midcall.captures("sample-v*", role="call")})
        ['viber']
        """
        from midcall.captures.fetch.capture_item import items

        return items(name, app, role, kind, real_only, missing, corpus, fetch)


sys.modules[__name__].__class__ = CapturesModule
