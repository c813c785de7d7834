# SPDX-License-Identifier: BSD-3-Clause
"""Names of files as text: a name is octets, and not all of them are UTF-8."""

from __future__ import annotations

import os


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that can be written anywhere; octets outside of UTF-8 as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
