# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on a live call: the words of testbed.assess.call_verdict, from what both programs say
and the taps.

As there, a verdict is a difference from a control: the same plan on the same access network under
the empty policy. The first that holds:

INVALID: a program died, or the control carried no call. INCONCLUSIVE: no packet met any rule, and
every rule asks for something that the call did not hold (names, addresses); or the call failed and
no rule was met. SETUP_BLOCKED: the programs were not connected in time. FALLBACK: media went by a
path that the control did not need. CONNECTED_NO_MEDIA, ONE_WAY, CUT, DEGRADED, OK: as in replay.
SIGNALLING_BLOCKED is never said: signalling of browsers does not cross the line, SIP's is set-up.
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
from midcall.testbed.assess.quality import ASSUMED, Heard
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.programs.calls.media_direction import DOWN, UP, Way, control_of
from midcall.testbed.programs.calls.report import CALLEE, CALLER, Account, End

Numbers = NDArray[np.int64]

#: How the caller's end reached the other, best first; in the words of captures.calls.Alternative.
PATHS: dict[str, Literal["peer", "relay", "tcp", "tls"]] = {
    "": "peer", "udp": "relay", "tcp": "tcp", "tls": "tls",
}  # fmt: skip
RANKS: list[str] = list(PATHS.values())
#: What a plan's media are counted by.
COUNTED = {"audio": ("audio",), "audio+video": ("audio", "video"), "screen": ("video",),
           "data": ("data",)}  # fmt: skip
#: Media packets that the control must have had in a silence for it to count as one.
SILENCE_PACKETS = 5
#: Ends of calls are not compared: samples are this coarse, and both ends hang up one by one.
GUARD = 600_000_000
WORDS = {UP: "from the caller", DOWN: "to the caller"}
#: Who receives in each direction.
RECEIVERS = {UP: CALLEE, DOWN: CALLER}


class Called(NamedTuple):
    """A call that was made: what its programs say, its two directions, packets that met rules."""

    account: Account
    ways: Mapping[str, Way]
    met: Mapping[str, int]


class Judged(NamedTuple):
    """What became of a live call. path: that carried its media at last, "" for none."""

    verdict: str
    blocked: bool
    rule: str | None
    reason: str
    path: str


def judge(called: Called, control: Called, policy: Policy) -> Judged:
    """Return the verdict on a call under a policy, against the same call under none."""
    word, reason = told(called, control, policy)
    rule = next((rule.name for rule in policy.rules if called.met.get(rule.name)), None)
    if (word in BLOCKED or word in ("DEGRADED", "FALLBACK")) and rule is None:
        word, reason = "INCONCLUSIVE", f"{reason}; but no packet met a rule"
    return Judged(word, word in BLOCKED, rule, f"{reason}.", path(called.account))


def told(called: Called, control: Called, policy: Policy) -> tuple[str, str]:
    """Return the verdict and why, in one clause."""
    account = called.account
    for one in (account, control.account):
        if one.error:
            return "INVALID", one.error
    due = {name: arrivals(control.account, name) for name in WORDS}
    if not control.account.connected or not all(len(held) for held in due.values()):
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
    """Return how far the caller's program came, as one clause."""
    states = account.end(CALLER).states
    said = ", ".join(dict.fromkeys(f"{one.kind} {one.word}" for one in states[-3:]))
    return (
        f"not connected within {account.ended_s:.0f} s; the caller's last words: {said or 'none'}"
    )


def path(account: Account) -> str:
    """Return how media went at last: "peer", "relay", "tcp" or "tls"; "" where it did not."""
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
    """Return when an end said that it was connected, s since the call was placed; 0 for never."""
    for state in end.states:
        if state.word in ("connected", "established") and state.kind in ("connection", "sip"):
            return state.at_s
    return 0.0


def arrivals(account: Account, name: str) -> Numbers:
    """Return when media of a direction came, ns since its receiver was connected, as it tells."""
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
        int(min(called.account.plan.seconds * 1e9, *(held[-1] for held in due.values()))) - GUARD
    )
    due = {name: held[held <= until] for name, held in due.items()}
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
    """Return when a direction fell silent for 5 s, or to its end, while the control had media.

    due, came: sorted arrival times without and with the policy, in ns; None for no such silence.
    """
    if not len(due) or not len(came):
        return None
    ends = np.append(came[1:], max(int(due[-1]), int(came[-1])))
    missing = np.searchsorted(due, ends, "left") - np.searchsorted(due, came, "right")
    silent = (missing >= SILENCE_PACKETS) & (ends - came >= SILENCE)
    return int(came[silent][0]) if silent.any() else None


def is_silent(due: Numbers, came: Numbers) -> bool:
    """Tell whether under 1 % of a direction's media came in its first 5 s, or at all."""
    expected, got = int((due < SILENCE).sum()), int((came < SILENCE).sum())
    return bool(expected and (got < SILENT_SHARE * expected or len(came) < SILENT_SHARE * len(due)))


def quality(called: Called, control: Called) -> tuple[str, str]:
    """Return DEGRADED and why where a direction is that bad, else OK."""
    for name, way in called.ways.items():
        why = complaint(way.heard, control_of(way, control.ways[name]))
        if why:
            return "DEGRADED", f"media {WORDS[name]} came badly: {why}"
    return "OK", "media arrived as without the policy"


def complaint(heard: Heard | None, control: Heard | None) -> str:
    """Return what degrades a direction, as one clause; "" where nothing does."""
    if heard is None or control is None:
        return ""
    if heard.loss > LOSS_LIMIT >= control.loss:
        return f"{100 * heard.loss:.1f} % did not arrive"
    now, was = heard.delay_ms, control.delay_ms
    if now is not None and was is not None and was <= DELAY_LIMIT < now:
        return f"they took {now:.0f} ms one way, {was:.0f} ms without the policy"
    if heard.r is not None and control.r is not None and control.r - heard.r >= R_LIMIT:
        return f"R fell by {control.r - heard.r:.0f} to {heard.r:.0f} (as {ASSUMED.name})"
    return ""
