# SPDX-License-Identifier: BSD-3-Clause
"""Provenance of a run: which code, versions, machine and captures its numbers come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict

from midcall.locations import HOME, ROOT

#: The packages that decide a cell's result. The runner's own format is versioned by CELL_FORMAT.
CELL_PACKAGES = ("captures", "classifier", "testbed")
LIBRARIES = ("numpy", "numba", "llvmlite", "scipy", "scikit-learn", "pyarrow", "pydantic")


class GitState(TypedDict):
    """The commit checked out, and whether files differ from it; None without git."""

    commit: str | None
    dirty: bool | None


class Machine(TypedDict):
    """The facts of a machine that timings depend on; None where one is not known."""

    cpu: str | None
    cores: int
    governor: str | None
    memory_bytes: int
    kernel: str
    system: str
    architecture: str
    python: str


@cache
def code_digest(packages: Sequence[str] = CELL_PACKAGES) -> str:
    """Return the sha256 (hex) of every source and data file of the packages and of versions.

    Added captures and the samples are left out: a cell names its captures by their own sha256.
    """
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((HOME / package).rglob("*")):
            if path.suffix in (".py", ".toml") and "local" not in path.parts:
                name = path.relative_to(ROOT).as_posix().encode()
                digest.update(name + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((platform.python_version(), library_versions())).encode())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that numbers depend on."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def git_state(root: Path = ROOT) -> GitState:
    """Return the commit checked out and whether files differ from it; None without git."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}


def _git(root: Path, *words: str) -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(root), *words]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return process.stdout.strip() if process.returncode == 0 else None


def machine() -> Machine:
    """Return the facts that timings depend on: CPU, cores, governor, memory, kernel."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def sha256(data: bytes) -> str:
    """Return the sha256 of bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def midcall_version() -> str:
    """Return Midcall's own version."""
    return _version("midcall")
