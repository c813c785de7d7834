# SPDX-License-Identifier: BSD-3-Clause
"""QUIC by aioquic: HTTP/3 at both ends, an implementation other than nginx, curl and Chromium.

python -m midcall.testbed.programs.background.quic server|client ADDRESS PORT NAME FOLDER SECONDS
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midcall.testbed.programs.background.certificates import certificate, lacking
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration

ADDRESS, NAME, PORT = "198.19.14.1", "news.example.org", 443
#: Octets of the server's answers, in turn.
ANSWERS = (3_000, 6_000, 1_200, 4_000)
PAUSE_SECONDS = 0.8


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    lacks = lacking()
    if find_spec("aioquic") is None:
        lacks.append("aioquic is missing: pip install 'midcall[bystanders]'")
    return lacks


def start(stage: Stage, kind: str) -> Act:
    """Start the server; a visit is a run of the client, with one connection."""
    del kind
    folder = stage.folder("quic")
    certificate(folder, NAME)
    base = [sys.executable, "-m", "midcall.testbed.programs.background.quic"]
    rest = [ADDRESS, str(PORT), NAME, str(folder)]
    server = stage.server([*base, "server", *rest, "600"], "aioquic-server")
    server.wait_for(lambda: listening(stage.line.server_pid, "udp", PORT), 20, "listening")

    def act(seconds: float) -> None:
        stage.run([*base, "client", *rest, str(seconds)], "aioquic", seconds + 30)

    return Act((Service("udp", ADDRESS, PORT, "aioquic, HTTP/3 over QUIC"),), act)


def quic_configuration(client: bool, name: str, folder: Path) -> QuicConfiguration:
    """Return the QUIC configuration of an end."""
    from aioquic.h3.connection import H3_ALPN
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(is_client=client, alpn_protocols=H3_ALPN, server_name=name)
    if client:
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(str(folder / "authority.pem"))
    else:
        configuration.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return configuration


def protocols() -> tuple[Any, Any]:
    """Return the classes of the server's and the client's connections."""
    from aioquic.asyncio import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.events import ProtocolNegotiated, QuicEvent

    class Answering(QuicConnectionProtocol):  # type: ignore[misc]
        """Answers each request with a body of the next size."""

        http: H3Connection | None = None
        turn = 0

        def quic_event_received(self, event: QuicEvent) -> None:
            if isinstance(event, ProtocolNegotiated):
                self.http = H3Connection(self._quic)
            for one in self.http.handle_event(event) if self.http is not None else ():
                if isinstance(one, HeadersReceived):
                    assert self.http is not None
                    size = ANSWERS[self.turn % len(ANSWERS)]
                    self.turn += 1
                    self.http.send_headers(one.stream_id, [(b":status", b"200")])
                    self.http.send_data(one.stream_id, b"news " * (size // 5), True)
                    self.transmit()

    class Asking(QuicConnectionProtocol):  # type: ignore[misc]
        """Sends requests, and sets `whole` when the answer is complete."""

        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.http = H3Connection(self._quic)
            self.whole: asyncio.Event = asyncio.Event()

        def ask(self, name: str, path: str) -> None:
            self.whole.clear()
            words = (
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", name),
                (":path", path),
            )
            stream = self._quic.get_next_available_stream_id()
            self.http.send_headers(stream, [(k.encode(), v.encode()) for k, v in words], True)
            self.transmit()

        def quic_event_received(self, event: QuicEvent) -> None:
            for one in self.http.handle_event(event):
                if isinstance(one, DataReceived) and one.stream_ended:
                    self.whole.set()

    return Answering, Asking


async def serve(address: str, port: int, name: str, folder: Path, seconds: float) -> None:
    """Answer requests for some seconds."""
    from aioquic.asyncio import serve as listen

    answering, _ = protocols()
    server = await listen(
        address,
        port,
        configuration=quic_configuration(False, name, folder),
        create_protocol=answering,
    )
    await asyncio.sleep(seconds)
    server.close()


async def ask(address: str, port: int, name: str, folder: Path, seconds: float) -> None:
    """Send requests over one connection for some seconds."""
    from aioquic.asyncio import connect

    _, asking = protocols()
    configuration = quic_configuration(True, name, folder)
    async with connect(address, port, configuration=configuration, create_protocol=asking) as one:
        for turn in range(max(2, round(seconds / PAUSE_SECONDS))):
            one.ask(name, f"/{turn}")
            await asyncio.wait_for(one.whole.wait(), 20)
            await asyncio.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run one end for some seconds."""
    role, address, port, name, folder, seconds = sys.argv[1:]
    end = serve if role == "server" else ask
    asyncio.run(end(address, int(port), name, Path(folder), float(seconds)))


if __name__ == "__main__":
    main()
