# SPDX-License-Identifier: BSD-3-Clause
"""`midcall doctor`: one line per requirement or option, with how to install what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from midcall.experiments.results.provenance import LIBRARIES, machine

NEEDED, OPTIONAL = "missing", "absent"


class Finding(NamedTuple):
    """One line: the thing checked, its state (ok, missing or absent), and details."""

    name: str
    state: str
    words: str

    @property
    def line(self) -> str:
        """Return the finding as one line."""
        return f"{self.state:8}{self.name:18}{self.words}"


def examine() -> list[Finding]:
    """Check everything; "missing" things are required, "absent" ones are optional."""
    return [
        _python(),
        *(_library(name) for name in (*LIBRARIES, "scapy", "dpkt", "altair", "typer", "rich")),
        _compiled(),
        _captures(),
        _tool("git", "captures from Git archives and histories", "apt-get install git"),
        _apt(),
        *(_peer(name) for name in ("ndpi", "nfstream", "tshark")),
        *_live(),
        _extra("distributed", "work on a Dask cluster", "pip install 'midcall[dask]'"),
        _folder("cells", "midcall/cells", "finished cells"),
        _folder("downloads", "midcall/captures", "captures obtained"),
        _machine(),
    ]


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}")


def _library(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, NEEDED, "not installed: make setup")


def _extra(name: str, use: str, fix: str) -> Finding:
    try:
        return Finding(name, "ok", f"{importlib.metadata.version(name)}, for {use}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, OPTIONAL, f"not installed, needed for {use}: {fix}")


def _compiled() -> Finding:
    """Check the cache of compiled code; importing the module chooses the folder."""
    try:
        from midcall.captures.jit.code_folders import CACHE, PLAIN
        from midcall.captures.jit.kernel import is_warm
    except ImportError as error:
        return Finding("compiled code", NEEDED, f"numba cannot be imported ({error}): make setup")
    if PLAIN:
        return Finding("compiled code", "ok", "off (NUMBA_DISABLE_JIT=1): slow, same verdicts")
    return Finding(
        "compiled code", "ok", f"{CACHE} ({'warm' if is_warm() else 'compiled at first use'})"
    )


def _captures() -> Finding:
    folder = os.environ.get("MIDCALL_CORPUS")
    if folder is None:
        return Finding(
            "MIDCALL_CORPUS", OPTIONAL, "not set: captures come from the cache and the network"
        )
    if Path(folder).is_dir():
        return Finding("MIDCALL_CORPUS", "ok", folder)
    return Finding("MIDCALL_CORPUS", NEEDED, f"{folder} is no folder: set it to one, or unset it")


def _tool(name: str, use: str, fix: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, OPTIONAL, f"not found, needed for {use}: {fix}")
    return Finding(name, "ok", path)


def _apt() -> Finding:
    """Check whether apt can download the Debian source package that has captures."""
    use = "captures of the Debian source package ndpi"
    if shutil.which("apt-get") is None:
        return Finding("apt source", OPTIONAL, f"no apt-get on this machine, needed for {use}")
    rings = [*Path("/usr/share/keyrings").glob("debian-archive-keyring.*")]
    if not rings:
        return Finding(
            "apt source",
            OPTIONAL,
            f"no Debian archive keys, needed for {use}: apt-get install debian-archive-keyring",
        )
    return Finding("apt source", "ok", f"apt-get and {rings[0]}")


def _peer(name: str) -> Finding:
    """Check whether an engine to compare with (a peer) is installed."""
    from midcall.experiments.accuracy import peers

    peer, reason = peers.find(name)
    if peer is None:
        return Finding(name, OPTIONAL, f"a peer to compare with: {reason}")
    return Finding(name, "ok", f"a peer to compare with, version {peer.version}")


def _live() -> list[Finding]:
    """Check what the live backend needs and can use."""
    try:
        from midcall.experiments.cli.readiness import findings
    except ImportError as error:
        return [Finding("live", OPTIONAL, f"cannot be looked at ({error}): make setup")]
    return findings()


def _folder(name: str, below: str, use: str) -> Finding:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / below
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(name, NEEDED, f"{folder} cannot be written ({error.strerror}), keeps {use}")
    count = sum(1 for path in folder.rglob("*") if path.is_file())
    return Finding(name, "ok", f"{folder} ({count} files)")


def _machine() -> Finding:
    facts = machine()
    memory = facts["memory_bytes"] / 2**30
    return Finding(
        "machine", "ok", f"{facts['cores']} cores, {facts['cpu']}, {memory:.1f} GiB, "
        f"Linux {facts['kernel']}"
    )  # fmt: skip
