# SPDX-License-Identifier: BSD-3-Clause
"""The helper of `midcall probe`: the far end of a caller's probes, one caller at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from midcall.errors import TestbedError
from midcall.testbed.probing.control import Control, ends_of, ends_words, packed, unpacked, welcome
from midcall.testbed.probing.leash import Budget, allowed
from midcall.testbed.probing.real_sockets import IDLE, LocalEnd, has_message, wait_for


def serve(
    address: str, port: int, key: bytes, budget: Budget, say: Callable[[str], None],
    callers: int | None = None,
) -> None:  # fmt: skip
    """Wait for callers and play the far end of their probes.

    callers: how many are served, None for all. Each has the whole budget. Raises TestbedError for
    an address outside the lab.
    """
    family = socket.AF_INET6 if ":" in allowed(address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, port))
        except OSError as error:
            raise TestbedError(f"address {address}, port {port}: {error.strerror}") from None
        listening.listen(4)
        say(f"midcall: waiting for callers at {address}, port {port}")
        served = 0
        while callers is None or served < callers:
            stream, peer = listening.accept()
            with stream:
                try:
                    allowed(peer[0])
                    control = welcome(stream, key)
                except (TestbedError, OSError) as error:
                    say(f"midcall: {peer[0]}: {error}")
                    continue
                served += 1
                own = Budget(budget.packets, budget.octets, budget.seconds)
                attend(control, own, say)


def attend(control: Control, budget: Budget, say: Callable[[str], None] = print) -> None:
    """Do what one caller asks for, until it closes or the budget is spent."""
    end = LocalEnd(False, budget)
    try:
        while True:
            wait_for(control, end, IDLE)
            while has_message(control):  # all that is due, or the queue would look like the line's
                message = control.hear()
                if message is None:
                    return
                done = obey(end, message)
                if done is not None:
                    control.tell(done)
            end.look(0)
            events = end.take()
            if events:
                control.tell({"events": [
                    [one.time, one.up, ends_words(one.ends), one.kind, packed(one.payload),
                     one.dscp]
                    for one in events
                ]})  # fmt: skip
    except TestbedError as error:
        say(f"midcall: {error}")
        control.tell({"error": str(error)})
    except OSError as error:
        say(f"midcall: the caller is gone ({error.strerror})")
    finally:
        end.close()


def obey(end: LocalEnd, message: dict[str, Any]) -> dict[str, Any] | None:
    """Do one thing that the caller asks for; returns the message that answers it."""
    if message["do"] == "open":
        end.open(ends_of(message["ends"]))
        return {"done": "open"}
    if message["do"] == "send":
        dscp = int(message["dscp"]) & 63
        end.send(ends_of(message["ends"]), unpacked(message["octets"]), dscp)
        return None
    end.close()
    return {"done": "close"}
