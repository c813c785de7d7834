# SPDX-License-Identifier: BSD-3-Clause
"""Main loop of a worker program (see json_worker): orders and answers, one line of JSON each."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any


async def obey(version: str, do: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    """Write that the program is ready, then answer each order with the result of `do`.

    Returns when the input ends. An exception of `do` is answered as an error.
    """
    answer({"ready": version})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer({"done": await do(json.loads(line))})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def answer(value: dict[str, Any]) -> None:
    """Write an answer as a line of JSON."""
    print(json.dumps(value), flush=True)
