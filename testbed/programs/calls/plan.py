# SPDX-License-Identifier: BSD-3-Clause
"""The plan of a call: which program makes it, what it carries, by which path, how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from midcall.errors import TestbedError

CALLERS = ("chromium", "aiortc", "baresip", "sipp")
#: The media of a call. "screen" is a canvas as video, with a data channel; "data" is a data channel
#: only, which is no call: a hard negative.
MEDIA = ("audio", "audio+video", "screen", "data")
#: How the caller reaches the callee. "any": direct and every relay, as apps do, so that a blocked
#: path can be replaced; the others allow one path only.
PATHS = ("direct", "turn-udp", "turn-tcp", "turn-tls", "any")
#: How SIP's media is sent: plain RTP, or SRTP with keys in SDP (RFC 4568).
SECURITY = ("rtp", "srtp")


class Capabilities(NamedTuple):
    """The capabilities of a program; a plan that needs others is an error."""

    media: tuple[str, ...] = ("audio",)
    paths: tuple[str, ...] = ("direct",)
    security: tuple[str, ...] = ("rtp",)
    registrar: bool = False
    many: bool = False


#: WebRTC is always SRTP; for it either value of SECURITY is accepted.
CAPABILITIES = {
    "chromium": Capabilities(MEDIA, PATHS, SECURITY),
    "aiortc": Capabilities(("audio", "data"), security=SECURITY, many=True),
    "baresip": Capabilities(security=SECURITY, registrar=True),
    "sipp": Capabilities(many=True),
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
        if self.caller not in CAPABILITIES:
            return [f"caller: got {self.caller!r}, expected one of {', '.join(CALLERS)}"]
        supported = CAPABILITIES[self.caller]
        errors = [
            f"{key}: got {value!r}, {self.caller} can do {', '.join(known)}"
            for key, value, known in (
                ("media", self.media, supported.media),
                ("path", self.path, supported.paths),
                ("security", self.security, supported.security),
            )
            if value not in known
        ]
        if self.registrar and not supported.registrar:
            errors.append(f"registrar: got true, {self.caller} calls without one")
        if not 0 < self.seconds <= LONGEST_S:
            errors.append(f"seconds: got {self.seconds}, expected above 0 and at most {LONGEST_S}")
        if self.calls < 1 or (self.calls > 1 and not supported.many):
            errors.append(f"calls: got {self.calls}, {self.caller} makes one call at a time")
        return errors

    def check(self) -> None:
        """Raise TestbedError with everything that is wrong."""
        if errors := self.problems():
            raise TestbedError("\n".join(f"call {self.name}: {line}" for line in errors))
