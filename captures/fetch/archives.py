# SPDX-License-Identifier: BSD-3-Clause
"""Search tarballs for captures by content.

No name inside an archive is used as a path: a member is written only if its sha256 is wanted, and
then under that sha256. So an archive cannot write anywhere else. Its size, its number of members
and the size of each are bounded.
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

    Returns the sums of the kept files. Raises ArchiveError if the archive is damaged or beyond the
    bounds.
    """
    sums: set[str] = set()
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
                    sums |= take(tar, member, wanted.keys() - sums, keep)
                if len(sums) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArchiveError(f"{archive.name}: damaged archive: {error}") from None
    return sums


def take(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    wanted: Collection[str],
    keep: Callable[[str, bytes], None],
) -> set[str]:
    """Keep a member whose sha256 is wanted; returns the set of its sum, else an empty set."""
    handle = tar.extractfile(member)
    content = handle.read(member.size) if handle else b""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in wanted:
        return set()
    keep(sha256, content)
    return {sha256}
