# SPDX-License-Identifier: BSD-3-Clause
"""One end of WebRTC calls by aiortc: many connections in one process, each with a voice or a chat.

A process of its own: `python -m testbed.programs.calls.webrtc_peer`. It reads one order per line
from its input, {"do": "offer" | "answer" | "take" | "report" | "close", ...}, and answers each with
a line of JSON. Candidates are in the descriptions: aiortc does not trickle.
"""

from __future__ import annotations

import asyncio
import fractions
import time
from typing import Any

import numpy as np

from midcall.testbed.programs.calls import voice
from midcall.testbed.programs.worker_main import obey

FRAME_S, SAMPLE_S, CHAT_S = 0.02, 0.25, 0.15


def tone() -> Any:
    """Return a track that plays the reference in real time."""
    from aiortc import MediaStreamTrack
    from av import AudioFrame

    class Tone(MediaStreamTrack):  # type: ignore[misc]
        """The reference, repeated, a frame of 20 ms at a time."""

        kind = "audio"

        def __init__(self) -> None:
            super().__init__()
            self.reference = voice.reference(4.0)
            self.at, self.begin = 0, time.monotonic()

        async def recv(self) -> Any:
            """Return the next frame when it is due."""
            await asyncio.sleep(max(self.begin + self.at / voice.RATE - time.monotonic(), 0))
            start = self.at % len(self.reference)
            part = np.ascontiguousarray(self.reference[start : start + voice.WINDOW])
            frame = AudioFrame.from_ndarray(part.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate, frame.pts = voice.RATE, self.at
            frame.time_base = fractions.Fraction(1, voice.RATE)
            self.at += voice.WINDOW
            return frame

    return Tone()


class Peer:
    """One connection, and its states with their times."""

    def __init__(self, media: str, offers: bool) -> None:
        """Open a connection with a voice, or with a chat that the offering end opens."""
        from aiortc import RTCConfiguration, RTCPeerConnection

        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.states: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.sent = self.received = 0
        self.connected = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        for event, kind in (
            ("connectionstatechange", "connection"),
            ("iceconnectionstatechange", "ice"),
            ("signalingstatechange", "signalling"),
        ):
            self.connection.on(event, self.state_recorder(kind))
        self.connection.on("track", lambda track: self.go(self.drain(track)))
        self.connection.on("datachannel", self.chat)
        if media == "audio":
            self.connection.addTrack(tone())
        elif offers:
            channel = self.connection.createDataChannel("chat")
            channel.on("open", lambda: self.chat(channel))
        self.go(self.watch())

    def go(self, work: Any) -> None:
        """Run a coroutine concurrently, until the end."""
        self.tasks.append(asyncio.ensure_future(work))

    def state_recorder(self, kind: str) -> Any:
        """Return a callback that records a new state of a kind."""
        names = {"connection": "connectionState", "ice": "iceConnectionState",
                 "signalling": "signalingState"}  # fmt: skip

        def record_state() -> None:
            word = getattr(self.connection, names[kind])
            self.states.append({"at": time.time() * 1e3, "kind": kind, "word": word})
            if kind == "connection" and word == "connected":
                self.connected.set()

        return record_state

    async def drain(self, track: Any) -> None:
        """Receive a track until it ends."""
        from aiortc.mediastreams import MediaStreamError

        try:
            while True:
                await track.recv()
        except MediaStreamError:
            return

    def chat(self, channel: Any) -> None:
        """Send a message every CHAT_S s, and count those that arrive."""

        def count(_: object) -> None:
            self.received += 1

        async def talk() -> None:
            while channel.readyState == "open":
                channel.send(f"message {self.sent} " + "x" * (20 + self.sent * 37 % 400))
                self.sent += 1
                await asyncio.sleep(CHAT_S)

        channel.on("message", count)
        self.go(talk())

    async def watch(self) -> None:
        """Record every SAMPLE_S s what has arrived."""
        while True:
            rows = await self.rows()
            came = sum(row["packetsReceived"] for row in rows if row["type"] == "inbound-rtp")
            sample = {"at": time.time() * 1e3, "audio": came, "video": 0, "data": self.received}
            self.samples.append(sample)
            await asyncio.sleep(SAMPLE_S)

    async def rows(self) -> list[dict[str, Any]]:
        """Return the connection's statistics as plain values."""
        statistics = await self.connection.getStats()
        return [
            {key: value for key, value in vars(row).items() if isinstance(value, int | float | str)}
            for row in statistics.values()
        ]

    async def report(self) -> dict[str, Any]:
        """Return this end's report on its call."""
        local = self.connection.localDescription
        return {
            "rows": await self.rows(), "states": self.states, "samples": self.samples,
            "sent": self.sent, "heard": self.received, "sdp": local.sdp if local else "",
        }  # fmt: skip

    async def close(self) -> None:
        """Close it."""
        for task in self.tasks:
            task.cancel()
        await self.connection.close()


class Peers:
    """All connections of this end."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    async def do(self, order: dict[str, Any]) -> Any:
        """Execute one order; returns its result."""
        from aiortc import RTCSessionDescription

        what = order["do"]
        if what == "offer":
            self.peers = [Peer(order["media"], True) for _ in range(order["calls"])]
            for one in self.peers:
                await one.connection.setLocalDescription(await one.connection.createOffer())
            return [one.connection.localDescription.sdp for one in self.peers]
        if what == "answer":
            self.peers = [Peer(order["media"], False) for _ in order["sdp"]]
            for one, sdp in zip(self.peers, order["sdp"], strict=True):
                await one.connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
                await one.connection.setLocalDescription(await one.connection.createAnswer())
            return [one.connection.localDescription.sdp for one in self.peers]
        if what == "take":
            for one, sdp in zip(self.peers, order["sdp"], strict=True):
                await one.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            return None
        if what == "connected":
            waits = [asyncio.ensure_future(one.connected.wait()) for one in self.peers]
            await asyncio.wait(waits, timeout=order["patience_s"])
            for wait in waits:
                wait.cancel()
            return [one.connected.is_set() for one in self.peers]
        if what == "report":
            return [await one.report() for one in self.peers]
        for one in self.peers:
            await one.close()
        self.peers = []
        return None


async def main() -> None:
    """Write the version of aiortc, and execute orders until the input ends."""
    import aiortc

    await obey(aiortc.__version__, Peers().do)


if __name__ == "__main__":
    asyncio.run(main())
