# SPDX-License-Identifier: BSD-3-Clause
"""Archives: tarballs searched for captures by content.

No name inside an archive is ever used as a path: a member is written only when its sha256 is
wanted, and then under that sha256. So an archive cannot write anywhere else, and its size, its
number of members and the size of each are bounded.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

MEMBERS = 500_000
UNPACKED = 8 << 30


class ArchiveError(Exception):
    """Why an archive cannot be read."""


def search(
    archive: Path,
    wanted: Mapping[str, int],
    keep: Callable[[str, bytes], None],
    members: int = MEMBERS,
    unpacked: int = UNPACKED,
) -> set[str]:
    """Find wanted files (sha256 -> bytes) in a tarball, of any compression, and `keep` each.

    Returns the sums found. Raises ArchiveError when the archive is damaged or beyond the bounds.
    """
    found: set[str] = set()
    count = total = 0
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                count, total = count + 1, total + max(member.size, 0)
                if count > members or total > unpacked:
                    raise ArchiveError(
                        f"{archive.name}: more than {members} members or {unpacked} bytes"
                    )
                if member.isreg() and member.size in wanted.values():
                    found |= take(tar, member, wanted.keys() - found, keep)
                if len(found) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArchiveError(f"{archive.name}: damaged archive: {error}") from None
    return found


def take(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    wanted: Collection[str],
    keep: Callable[[str, bytes], None],
) -> set[str]:
    """Keep a member whose sha256 is wanted; returns its sum, or nothing."""
    handle = tar.extractfile(member)
    content = handle.read(member.size) if handle else b""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in wanted:
        return set()
    keep(sha256, content)
    return {sha256}
