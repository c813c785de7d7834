# SPDX-License-Identifier: BSD-3-Clause
"""Kernels as Numba's ordinary functions (MIDCALL_LINKER=no)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from midcall.captures.jit.code_folders import code_folder


def compiled_by_numba(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return a function that Numba compiles, cached in the folder of its module."""
    numba.config.CACHE_DIR = str(code_folder(function.__module__))
    return numba.njit(cache=True, **options)(function)
