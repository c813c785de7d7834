# SPDX-License-Identifier: BSD-3-Clause
"""Download files over HTTP: with progress, resumable, bounded in size and time."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

CONNECT_S = 4.0
READ_S = 20.0
LIMIT = 2 << 30
AGENT = "midcall"


class DownloadError(Exception):
    """Why a file could not be downloaded; `unreachable`: its server did not answer."""

    def __init__(self, reason: str, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def download(
    url: str,
    target: Path,
    tell: Callable[[int, int | None], None] = lambda _done, _total: None,
    limit: int = LIMIT,
) -> Path:
    """Download a file and return its path; a `.part` file of the target is continued.

    A part is continued only if the server still has the same version (If-Range, RFC 9110 section
    13.1.5); otherwise the download restarts. Raises DownloadError.
    """
    part, mark = Path(f"{target}.part"), Path(f"{target}.version")
    target.parent.mkdir(parents=True, exist_ok=True)
    reach(url)
    resumed = part.stat().st_size if part.exists() and mark.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": AGENT})
    if resumed:
        request.add_header("Range", f"bytes={resumed}-")
        request.add_header("If-Range", mark.read_text())
    try:
        with urllib.request.urlopen(request, timeout=READ_S) as answer:
            if answer.status == 206 and starts_at(answer.headers.get("Content-Range")) != resumed:
                raise DownloadError("the server sent another part than was asked for")
            done = resumed if answer.status == 206 else 0
            keep_version(mark, answer.headers)
            receive(answer, part, done, tell, limit)
    except DownloadError:
        discard(part, mark)
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            discard(part, mark)
        raise DownloadError(f"the server answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"the download broke off: {why(error)}") from None
    os.replace(part, target)
    mark.unlink(missing_ok=True)
    return target


def receive(
    answer: http.client.HTTPResponse,
    part: Path,
    done: int,
    tell: Callable[[int, int | None], None],
    limit: int,
) -> None:
    """Write an answer to the part file, from byte `done` on."""
    length = answer.headers.get("Content-Length")
    total = done + int(length) if length and length.isdigit() else None
    if total is not None and total > limit:
        raise DownloadError(f"it is {total} bytes large, more than the bound of {limit}")
    with part.open("r+b" if done else "wb") as out:
        out.seek(done)
        out.truncate()
        while chunk := answer.read(1 << 18):
            out.write(chunk)
            done += len(chunk)
            if done > limit:
                raise DownloadError(f"it is larger than the bound of {limit} bytes")
            tell(done, total)
    if total is not None and done < total:
        raise OSError(f"{done} of {total} bytes came")


def reach(url: str) -> None:
    """Connect once to the server of a URL (or to the proxy for it); raises DownloadError."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and parts.hostname and not urllib.request.proxy_bypass(parts.hostname):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection((host, port), CONNECT_S).close()
            outcome.append("")
        except OSError as error:
            outcome.append(why(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    reason = outcome[0] if outcome else f"no answer in {CONNECT_S:g} s"
    if reason:
        raise DownloadError(f"{host} cannot be reached: {reason}", unreachable=True)


def why(error: BaseException) -> str:
    """Return a short text for a network error."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return why(error.reason)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def starts_at(content_range: str | None) -> int | None:
    """Return the first byte of a Content-Range, or None."""
    if not content_range or not content_range.startswith("bytes "):
        return None
    first = content_range[6:].split("-")[0]
    return int(first) if first.isdigit() else None


def keep_version(mark: Path, headers: http.client.HTTPMessage) -> None:
    """Store the version of a download if the server sends one that allows resumption."""
    version = headers.get("ETag") or headers.get("Last-Modified")
    if version and not version.startswith("W/"):
        mark.write_text(version)
    else:
        mark.unlink(missing_ok=True)


def discard(*files: Path) -> None:
    """Remove files; missing ones are ignored."""
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()
