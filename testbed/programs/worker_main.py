# SPDX-License-Identifier: BSD-3-Clause
"""Orders: what a program of ours does that a Servant is for, a line of JSON each way."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any


async def obey(version: str, do: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    """Say that the program is ready, and answer each order with what `do` gives for it.

    Ends when the input does. What `do` raises is told to who gave the order.
    """
    answer({"ready": version})
    loop = asyncio.get_running_loop()
    while words := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer({"done": await do(json.loads(words))})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def answer(value: dict[str, Any]) -> None:
    """Write a line."""
    print(json.dumps(value), flush=True)
