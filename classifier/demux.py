# SPDX-License-Identifier: BSD-3-Clause
"""From a payload to the readers that may understand it, in the order its first byte suggests."""

from __future__ import annotations

from typing import Any

from captures.compiled import kernel
from captures.octets import Octets
from classifier.flow import Numbers, Records


@kernel
def inspect(
    flows: Records,
    number: int,
    notes: Records,
    context: Records,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Look into one payload of a flow that is not settled."""


@kernel
def settle(flow: Any, notes: Records, context: Records) -> None:
    """Give a flow that stays undecided the verdict that its packets so far allow."""
    flow["verdict"] = 1
