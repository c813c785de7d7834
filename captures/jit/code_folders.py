# SPDX-License-Identifier: BSD-3-Clause
"""Where the machine code of each module is kept, and the settings on which it depends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from midcall.locations import HOME, ROOT

PACKAGE = "midcall"
FOLDERS = ("captures", "classifier", "testbed", "experiments")
IMPORT = re.compile(
    r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|[^(#\n]*)|import ([\w., ]+))", re.MULTILINE
)
#: Settings of Numba that change machine code.
SETTINGS = ("NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")

#: True where kernels run as plain Python (NUMBA_DISABLE_JIT=1): slow, checked, same verdicts.
PLAIN: bool = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
#: False where kernels are Numba's ordinary ones (MIDCALL_LINKER=no): they take minutes to compile.
LINKED: bool = os.environ.get("MIDCALL_LINKER") != "no"


def source(module: str) -> Path | None:
    """Return the file of a module of the lab, None for anything else."""
    if module.partition(".")[0] != PACKAGE:
        return None
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def imported(module: str) -> frozenset[str]:
    """Return the modules of the lab that a module imports, anywhere in its text."""
    file = source(module)
    if file is None:
        return frozenset()
    names_found = set()
    for line in IMPORT.finditer(file.read_text(encoding="utf-8")):
        package, names, plain = line.groups()
        if package:
            words = [word.split()[0] for word in names.strip("() ").split(",") if word.strip()]
            names_found |= {package, *(f"{package}.{word}" for word in words)}
        else:
            names_found |= {word.split()[0] for word in plain.split(",")}
    # The package itself imports its parts when a program calls them: no kernel depends on that.
    return frozenset(word for word in names_found - {PACKAGE} if source(word) is not None)


def reach(module: str) -> list[str]:
    """Return a module and all modules of the lab it imports, also indirectly, in order of name."""
    visited, pending = {module}, [module]
    while pending:
        unvisited = imported(pending.pop()) - visited
        visited |= unvisited
        pending += unvisited
    return sorted(visited)


@cache
def settings() -> bytes:
    """Return the settings and versions on which the machine code of a kernel depends."""
    config = tuple(os.environ.get(name, "") for name in SETTINGS)
    versions = (sys.version, llvmlite.__version__, np.__version__, numba_version())
    return repr((config, LINKED, versions, processor())).encode()


def numba_version() -> bytes:
    """Return the file in which Numba states its version, which need not be imported."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        return b""
    return Path(found.origin).with_name("_version.py").read_bytes()


@cache
def processor() -> str:
    """Return the processor for which Numba compiles: its name and features, one text."""
    if os.environ.get("NUMBA_CPU_NAME") == "generic":
        return "generic"  # then Numba uses no feature of this processor
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def digest_of(modules: Iterable[str]) -> str:
    """Return the sha256 (hex) of some modules' texts and of the settings."""
    digest = hashlib.sha256(settings())
    for module in modules:
        file = source(module)
        if file is not None:
            digest.update(module.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def all_modules() -> Iterator[str]:
    """Yield every module of the four folders, in order."""
    for folder in FOLDERS:
        for path in sorted((HOME / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cache_folder() -> Path:
    """Return a writable folder for compiled code: the user's cache, else a temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "midcall" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="midcall-compiled-"))


CACHE: Path | None = None if PLAIN else cache_folder()


#: When this process began to import the lab, in seconds since the epoch.
STARTED = time.time()
#: Versions (sources and settings) whose code is kept, and seconds in which code is never removed.
VERSIONS, DAY = 16, 86_400


@cache
def code_folder(module: str) -> Path:
    """Return the folder of one module's machine code.

    The digests of all modules are kept in one file, named by the sizes and times of all sources:
    reading every source takes longer than classifying a small capture.

    Where a source was edited after this process had started, this process may run the version
    before. Its code goes to a folder of its own, because code of one version that another version
    loads would read and write at wrong places.
    """
    folder = CACHE or Path()
    sources, edited = stamp()
    if edited:
        return folder / f"{module}-{digest_of(reach(module))[:16]}-{os.getpid()}"
    known = folder / f"digests-{sources}.json"
    table: dict[str, str] = {}
    with suppress(OSError, ValueError):
        table = json.loads(known.read_bytes())
    name = table.get(module)
    if name is None:
        name = f"{module}-{digest_of(reach(module))[:16]}"
        first = not table
        table[module] = name
        write_whole(known, json.dumps(table).encode())
        if first:
            prune(folder)
    return folder / name


def prune(folder: Path) -> None:
    """Remove the code of versions of the sources before the newest VERSIONS.

    Folders that changed in the last DAY stay: another process may be compiling into them.
    """
    with suppress(OSError, ValueError):
        versions = sorted(folder.glob("digests-*.json"), key=last_change, reverse=True)
        used = {
            name for one in versions[:VERSIONS] for name in json.loads(one.read_bytes()).values()
        }
        for one in versions[VERSIONS:]:
            one.unlink(missing_ok=True)
        for one in folder.iterdir():
            if one.is_dir() and one.name not in used and time.time() - last_change(one) > DAY:
                shutil.rmtree(one, ignore_errors=True)


def last_change(path: Path) -> float:
    """Return the time of change of a file or folder in seconds, 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def write_whole(place: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all; a full disk is no error."""
    part = place.with_name(f".{place.name}.{os.getpid()}")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)


@cache
def stamp() -> tuple[str, bool]:
    """Return a digest (hex) of the name, size, and time of change of every source, and whether one
    was edited after this process had started."""
    digest = hashlib.sha256(settings() + os.fspath(HOME).encode())
    now, edited = time.time(), False
    for folder in FOLDERS:
        for path, about in sorted(stamps(HOME / folder)):
            line = f"{path} {about.st_size} {about.st_mtime_ns} {about.st_ino}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
            edited |= STARTED < about.st_mtime <= now  # a clock that was wrong is no edit
    return digest.hexdigest()[:32], edited


def stamps(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path of each Python file in a folder, also in the folders in it, with its state."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith((".", "__")):
                    yield from stamps(entry.path)
            elif entry.name.endswith(".py"):
                yield entry.path, entry.stat()
