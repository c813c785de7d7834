# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on a live call, by the reports of both programs and the tap traces.

The verdicts are those of testbed.assess.call_verdict. As there, a verdict is a difference from a
control: the same plan on the same access network under the empty policy. The first that applies:

INVALID: a program died, or the control carried no call. INCONCLUSIVE: no packet met any rule, and
every rule requires something that the call did not contain (names, addresses); or the call failed
and no rule was met. SETUP_BLOCKED: the programs were not connected in time. FALLBACK: media went by
a path that the control did not need. CONNECTED_NO_MEDIA, ONE_WAY, CUT, DEGRADED, OK: as in replay.
SIGNALLING_BLOCKED does not occur: signalling of browsers does not cross the line, SIP's is set-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.testbed.assess.call_verdict import (
    BLOCKED,
    DELAY_LIMIT,
    LOSS_LIMIT,
    R_LIMIT,
    SILENCE,
    SILENT_SHARE,
)
from midcall.testbed.assess.quality import ASSUMED, DirectionQuality
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.programs.calls.media_direction import DOWN, UP, Direction, control_of
from midcall.testbed.programs.calls.report import CALLEE, CALLER, Account, End

Numbers = NDArray[np.int64]

#: Paths between the two ends, best first; named as in captures.truth.calls.Alternative.
PATHS: dict[str, Literal["peer", "relay", "tcp", "tls"]] = {
    "": "peer", "udp": "relay", "tcp": "tcp", "tls": "tls",
}  # fmt: skip
RANKS: list[str] = list(PATHS.values())
#: The media that are counted, by a plan's media.
COUNTED = {"audio": ("audio",), "audio+video": ("audio", "video"), "screen": ("video",),
           "data": ("data",)}  # fmt: skip
#: A gap counts as silence if the control had at least this many media packets in it.
SILENCE_PACKETS = 5
#: The last ns of a call are not compared: samples are coarse, and the ends hang up in turn.
GUARD = 600_000_000
WORDS = {UP: "from the caller", DOWN: "to the caller"}
#: The receiving end of each direction.
RECEIVERS = {UP: CALLEE, DOWN: CALLER}


class Called(NamedTuple):
    """A call that was made: account of its programs, its two directions, packets per rule."""

    account: Account
    ways: Mapping[str, Direction]
    met: Mapping[str, int]


class CallOutcome(NamedTuple):
    """The result of a live call. path: the last path that carried its media, "" for none."""

    verdict: str
    blocked: bool
    rule: str | None
    reason: str
    path: str


def judge(called: Called, control: Called, policy: Policy) -> CallOutcome:
    """Return the verdict on a call under a policy, against the same call under none."""
    word, reason = verdict_and_reason(called, control, policy)
    rule = next((rule.name for rule in policy.rules if called.met.get(rule.name)), None)
    if (word in BLOCKED or word in ("DEGRADED", "FALLBACK")) and rule is None:
        word, reason = "INCONCLUSIVE", f"{reason}; but no packet met a rule"
    return CallOutcome(word, word in BLOCKED, rule, f"{reason}.", path(called.account))


def verdict_and_reason(called: Called, control: Called, policy: Policy) -> tuple[str, str]:
    """Return the verdict and why, in one clause."""
    account = called.account
    for one in (account, control.account):
        if one.error:
            return "INVALID", one.error
    due = {name: arrivals(control.account, name) for name in WORDS}
    if not control.account.connected or not all(len(times) for times in due.values()):
        return "INVALID", "the call did not work without a policy either"
    excuses = [excuse(rule, called.met) for rule in policy.rules]
    if excuses and all(excuses):
        return "INCONCLUSIVE", str(excuses[0])
    if not account.connected:
        return "SETUP_BLOCKED", last_words(account)
    word, reason = media(called, control, due)
    if word in BLOCKED:
        return word, reason
    now, before = path(account), path(control.account)
    if now and before and RANKS.index(now) > RANKS.index(before):
        return "FALLBACK", f"media went by the {now} path, by the {before} path without the policy"
    if restarted(account):
        return "FALLBACK", f"the path was lost, and media went on by the {now} path"
    return word, reason


def excuse(rule: Rule, met: Mapping[str, int]) -> str:
    """Return why a call could not have met a rule, "" where it could."""
    if met.get(rule.name):
        return ""
    if rule.match.name or rule.match.dns:
        return f"the call holds no host name that rule {rule.name} asks for"
    if rule.match.addresses:
        return f"rule {rule.name} asks for addresses that the call does not go to"
    return ""


def last_words(account: Account) -> str:
    """Return the last states of the caller's program, as one clause."""
    states = account.end(CALLER).states
    last = ", ".join(dict.fromkeys(f"{one.kind} {one.word}" for one in states[-3:]))
    return (
        f"not connected within {account.ended_s:.0f} s; the caller's last words: {last or 'none'}"
    )


def path(account: Account) -> str:
    """Return the last path of the media: "peer", "relay", "tcp" or "tls"; "" for none."""
    if not account.connected:
        return ""
    return PATHS[account.end(CALLER).relays[-1]] if account.end(CALLER).relays else "peer"


def restarted(account: Account) -> bool:
    """Tell whether ICE was restarted and found another pair."""
    end = account.end(CALLER)
    asked = any(one.kind == "restart" for one in end.states)
    return asked and len({(pair.local, pair.remote) for pair in end.pairs}) > 1


# ---- media over time


def connected_at(end: End) -> float:
    """Return when an end reported that it was connected, s since the call was placed; 0: never."""
    for state in end.states:
        if state.word in ("connected", "established") and state.kind in ("connection", "sip"):
            return state.at_s
    return 0.0


def arrivals(account: Account, name: str) -> Numbers:
    """Return int64[packets]: arrivals of a direction's media, ns since its receiver connected.

    The source is the receiving program's own report.
    """
    end = account.end(RECEIVERS[name])
    kinds = COUNTED[account.plan.media]
    counts = np.array([sum(getattr(one, kind) for kind in kinds) for one in end.samples], np.int64)
    when = np.array([one.at_s - connected_at(end) for one in end.samples])
    new = np.maximum(np.diff(counts, prepend=0), 0)
    return np.repeat((when * 1e9).astype(np.int64), new)


def media(called: Called, control: Called, due: Mapping[str, Numbers]) -> tuple[str, str]:
    """Return the verdict on the media of a call that was set up."""
    came = {name: arrivals(called.account, name) for name in WORDS}
    until = (
        int(min(called.account.plan.seconds * 1e9, *(times[-1] for times in due.values()))) - GUARD
    )
    due = {name: times[times <= until] for name, times in due.items()}
    silent = [name for name in WORDS if is_silent(due[name], came[name])]
    stops = {
        name: gap / 1e9
        for name in WORDS
        if name not in silent and (gap := cut(due[name], came[name])) is not None
    }
    if len(silent) == len(WORDS):
        return "CONNECTED_NO_MEDIA", "set-up succeeded, under 1 % of the media arrived"
    if stops:
        name = min(stops, key=lambda one: stops[one])
        return "CUT", f"media {WORDS[name]} stopped {stops[name]:.1f} s after set-up"
    if silent:
        return "ONE_WAY", f"media {WORDS[silent[0]]} did not arrive, the other way it did"
    return quality(called, control)


def cut(due: Numbers, came: Numbers) -> int | None:
    """Return when a silence of 5 s, or to the end, began in which the control had media, ns.

    due, came: sorted arrival times without and with the policy, in ns; None for no such silence.
    """
    if not len(due) or not len(came):
        return None
    ends = np.append(came[1:], max(int(due[-1]), int(came[-1])))
    missing = np.searchsorted(due, ends, "left") - np.searchsorted(due, came, "right")
    silent = (missing >= SILENCE_PACKETS) & (ends - came >= SILENCE)
    return int(came[silent][0]) if silent.any() else None


def is_silent(due: Numbers, came: Numbers) -> bool:
    """Tell whether under 1 % of a direction's media arrived in its first 5 s, or at all."""
    expected, got = int((due < SILENCE).sum()), int((came < SILENCE).sum())
    return bool(expected and (got < SILENT_SHARE * expected or len(came) < SILENT_SHARE * len(due)))


def quality(called: Called, control: Called) -> tuple[str, str]:
    """Return DEGRADED and why where a direction exceeds a limit, else OK."""
    for name, way in called.ways.items():
        why = degradation(way.heard, control_of(way, control.ways[name]))
        if why:
            return "DEGRADED", f"media {WORDS[name]} came badly: {why}"
    return "OK", "media arrived as without the policy"


def degradation(measured: DirectionQuality | None, control: DirectionQuality | None) -> str:
    """Return the limit that a direction exceeds, as one clause; "" for none."""
    if measured is None or control is None:
        return ""
    if measured.loss > LOSS_LIMIT >= control.loss:
        return f"{100 * measured.loss:.1f} % did not arrive"
    now, was = measured.delay_ms, control.delay_ms
    if now is not None and was is not None and was <= DELAY_LIMIT < now:
        return f"they took {now:.0f} ms one way, {was:.0f} ms without the policy"
    if measured.r is not None and control.r is not None and control.r - measured.r >= R_LIMIT:
        return f"R fell by {control.r - measured.r:.0f} to {measured.r:.0f} (as {ASSUMED.name})"
    return ""
