# SPDX-License-Identifier: BSD-3-Clause
"""The plan of a call: which program makes it, what it carries, by which path, how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from midcall.errors import TestbedError

CALLERS = ("chromium", "aiortc", "baresip", "sipp")
#: What a call carries. "screen" is a canvas as video beside a data channel; "data" is a data
#: channel alone, which is no call: a hard negative.
MEDIA = ("audio", "audio+video", "screen", "data")
#: How the caller reaches the callee. "any": direct and every relay, as apps do, so that a blocked
#: path can be replaced by another; the others allow one path alone.
PATHS = ("direct", "turn-udp", "turn-tcp", "turn-tls", "any")
#: How SIP's media is sent: plain RTP, or SRTP with keys in SDP (RFC 4568).
SECURITY = ("rtp", "srtp")


class Able(NamedTuple):
    """What a program can do; a plan outside of it is an error."""

    media: tuple[str, ...] = ("audio",)
    paths: tuple[str, ...] = ("direct",)
    security: tuple[str, ...] = ("rtp",)
    registrar: bool = False
    many: bool = False


#: For WebRTC, which is always SRTP, either word of SECURITY is taken.
ABLE = {
    "chromium": Able(MEDIA, PATHS, SECURITY),
    "aiortc": Able(("audio", "data"), security=SECURITY, many=True),
    "baresip": Able(security=SECURITY, registrar=True),
    "sipp": Able(many=True),
}
#: The longest call that may be planned.
LONGEST_S = 600.0


@dataclass(frozen=True)
class Plan:
    """A call to be made.

    caller: the program, of CALLERS; media: of MEDIA; path: of PATHS; seconds: from the moment both
    ends are connected until one hangs up; security: of SECURITY, for SIP alone (WebRTC is always
    SRTP); registrar: whether a SIP call goes through a registrar; calls: at once, in one process
    (aiortc, sipp).
    """

    caller: str = "chromium"
    media: str = "audio"
    path: str = "direct"
    seconds: float = 4.0
    security: str = "rtp"
    registrar: bool = False
    calls: int = 1

    @property
    def name(self) -> str:
        """Return the plan in one word, for files: "chromium-audio-video-turn-tls"."""
        words = [self.caller, self.media.replace("+", "-"), self.path]
        if self.caller in ("baresip", "sipp"):
            words = [self.caller, self.security, "registrar" if self.registrar else "direct"]
        return "-".join(words)

    def problems(self) -> list[str]:
        """Return what is wrong with the plan, a sentence each."""
        if self.caller not in ABLE:
            return [f"caller: got {self.caller!r}, expected one of {', '.join(CALLERS)}"]
        able = ABLE[self.caller]
        found = [
            f"{key}: got {value!r}, {self.caller} can do {', '.join(known)}"
            for key, value, known in (
                ("media", self.media, able.media),
                ("path", self.path, able.paths),
                ("security", self.security, able.security),
            )
            if value not in known
        ]
        if self.registrar and not able.registrar:
            found.append(f"registrar: got true, {self.caller} calls without one")
        if not 0 < self.seconds <= LONGEST_S:
            found.append(f"seconds: got {self.seconds}, expected above 0 and at most {LONGEST_S}")
        if self.calls < 1 or (self.calls > 1 and not able.many):
            found.append(f"calls: got {self.calls}, {self.caller} makes one call at a time")
        return found

    def check(self) -> None:
        """Raise TestbedError with everything that is wrong."""
        if found := self.problems():
            raise TestbedError("\n".join(f"call {self.name}: {line}" for line in found))
