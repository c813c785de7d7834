# SPDX-License-Identifier: BSD-3-Clause
"""Fetch Debian source packages with a private apt: no change to the user's files, no root.

The sources of the machine's own apt are read (one-line and deb822 format), turned into deb-src
entries of a configuration in a temporary folder with its own lists, cache and state; only the
Acquire settings (proxies, certificates) are copied, so no hook of the machine runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from midcall.captures.fetch.stall_guard import Done, run

ETC = Path("/etc/apt")
#: Suites that add nothing to a source package of the release itself.
EXTRAS = ("-security", "-backports", "-proposed", "-debug", "/updates")
REMOTE = re.compile(r"^(https?|ftp|mirror|mirror\+https?|tor\+https?):", re.I)
LINE = re.compile(r"^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$")
#: Settings by which the machine's apt reaches its archives, except time-outs.
TAKEN_OVER = re.compile(r'^Acquire::(?:(?:https?|ftp|tor)(?!::Timeout)|Force|By-Hash)\S*\s+"')
DEAD = re.compile(r"does not answer|resolv|connect|timed out|unreachable", re.I)
KEPT_FIELDS = ("signed-by", "trusted", "check-valid-until", "allow-insecure")


class DebianError(Exception):
    """Why a source package could not be obtained; `unreachable`: no archive answered."""

    def __init__(self, reason: str, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def tarballs(
    package: str, workspace: Path, target: Path, tell: Callable[[int], None], etc: Path = ETC
) -> list[Path]:
    """Download the tarballs of a source package into `target`; raises DebianError.

    `workspace` is a folder for the private apt (kept between packages, so that the package lists
    are fetched once); `tell` gets the bytes that have arrived.
    """
    if shutil.which("apt-get") is None:
        raise DebianError("apt-get is not on this machine")
    if not (workspace / "apt.conf").exists():
        prepare(workspace, etc)
        update = run(
            ["apt-get", "-q", "update"], workspace, settings(workspace), tell=lambda _size: None
        )
        (workspace / "update").write_text(first_failure(update))
    target.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "-q", "source", "--download-only", "--tar-only", package]
    done = run(command, target, settings(workspace), target, tell)
    files = sorted(path for path in target.glob("*.tar*") if path.is_file())
    if done.code or done.stalled or not files:
        reason = first_failure(done) or "apt-get brought no tarball"
        if re.search("Unable to find a source package|put some 'deb-src'", reason):
            reason = (workspace / "update").read_text() or reason
        raise DebianError(reason, bool(DEAD.search(reason)))
    return files


def prepare(workspace: Path, etc: Path) -> None:
    """Write the private configuration; raises DebianError if no source can be derived."""
    stanzas = list(source_stanzas(etc))
    if not stanzas:
        raise DebianError("this machine's apt names no remote source with a deb-src to derive")
    workspace.mkdir(parents=True, exist_ok=True)
    workspace.chmod(0o755)  # apt drops to its own user for downloads where it runs as root
    for folder in ("sources", "conf", "lists/partial", "cache/archives/partial", "state", "log"):
        (workspace / folder).mkdir(parents=True, exist_ok=True)
    (workspace / "sources" / "private.sources").write_text("\n".join(stanzas))
    places = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": workspace / "conf",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": workspace / "sources",
        "Dir::State": workspace / "state",
        "Dir::State::lists": workspace / "lists",
        "Dir::Cache": workspace / "cache",
        "Dir::Log": workspace / "log",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 4,
        "Acquire::https::Timeout": 4,
        "APT::Install-Recommends": "false",
    }
    lines = [*acquire_settings(), *(f'{key} "{value}";' for key, value in places.items())]
    (workspace / "apt.conf").write_text("\n".join(lines) + "\n")


def settings(workspace: Path) -> dict[str, str]:
    """Return the environment that makes apt read the private configuration first."""
    return {"APT_CONFIG": str(workspace / "apt.conf"), "LC_ALL": "C", "LANGUAGE": ""}


def acquire_settings() -> list[str]:
    """Return the machine's Acquire settings (proxies, certificates), hooks left out."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in dump.splitlines() if TAKEN_OVER.match(line)]


def first_failure(done: Done) -> str:
    """Return the first error of a run of apt-get, "" for none."""
    if done.stalled:
        return "the package archive does not answer"
    for line in (done.errors + "\n" + done.output).splitlines():
        hit = re.match(r"^(?:E:|W: Failed to fetch|Err:\d+)\s*(.+)$", line)
        if hit:
            reason = re.sub(r"\S+://\S+", "the package archive", hit.group(1))
            return " ".join(re.sub(r"\[IP: [^]]*\]", "", reason).split())
    return ""


# ---- the machine's sources


def source_stanzas(etc: Path) -> Iterator[str]:
    """Yield deb822 stanzas of type deb-src for the remote sources of the machine's apt."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    seen: set[str] = set()
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for stanza in stanzas_of(file.suffix, text):
            if stanza and stanza not in seen:
                seen.add(stanza)
                yield stanza


def stanzas_of(suffix: str, text: str) -> Iterator[str]:
    """Yield the stanzas of one file of sources."""
    if suffix == ".sources":
        for paragraph in re.split(r"\n\s*\n", text):
            yield from_deb822(fields_of(paragraph))
    elif suffix == ".list":
        for line in text.splitlines():
            yield from_line(line)


def fields_of(paragraph: str) -> dict[str, str]:
    """Return the fields of a deb822 paragraph, names in lower case, continuations kept."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace() and name:
            fields[name] += "\n" + line
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def from_deb822(fields: dict[str, str]) -> str:
    """Return the deb-src stanza of a deb822 paragraph, "" if it is disabled or not remote."""
    if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
        return ""
    options = {key: fields[key] for key in KEPT_FIELDS if key in fields}
    words = (fields.get(key, "").split() for key in ("uris", "suites", "components"))
    uris, suites, components = words
    return stanza_of(uris, suites, components, options)


def from_line(line: str) -> str:
    """Return the deb-src stanza of a one-line entry, "" if it is none or not remote."""
    hit = LINE.match(line.split("#")[0])
    if hit is None:
        return ""
    options = dict(option.split("=", 1) for option in (hit.group(1) or "").split() if "=" in option)
    kept = {key: options[key] for key in KEPT_FIELDS if key in options}
    return stanza_of([hit.group(2)], [hit.group(3)], hit.group(4).split(), kept)


def stanza_of(
    uris: list[str], suites: list[str], components: list[str], options: dict[str, str]
) -> str:
    """Return a deb-src stanza of remote places with components, or ""."""
    uris = [uri for uri in uris if REMOTE.match(uri)]
    suites = [suite for suite in suites if not suite.endswith(("/", *EXTRAS))]
    if not (uris and suites and components):
        return ""
    lines = ["Types: deb-src", f"URIs: {' '.join(uris)}", f"Suites: {' '.join(suites)}"]
    lines.append(f"Components: {' '.join(components)}")
    lines += [f"{key.title()}: {value}" for key, value in options.items()]
    return "\n".join(lines) + "\n"
