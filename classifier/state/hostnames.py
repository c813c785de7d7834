# SPDX-License-Identifier: BSD-3-Clause
"""Host names that belong to apps, and a compiled look-up by the longest suffix.

A name identifies the app of a connection, but not that it is a call: an app's chat has names too.
Only names that serve nothing but calls have the role set-up.
"""

from __future__ import annotations

import numpy as np

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.flow_table import Numbers, mix
from midcall.classifier.state.packet_fields import SIGN_NAMELESS, SIGN_TEXT, SIGN_TEXT_LENGTH
from midcall.classifier.state.verdicts import (
    AGORA,
    DISCORD,
    FACETIME,
    IMO,
    KAKAOTALK,
    LINE,
    MEET,
    MESSAGING,
    MESSENGER,
    SETUP,
    SIGNAL,
    SKYPE,
    SNAPCHAT,
    TEAMS,
    TELEGRAM,
    VIBER,
    WEBEX,
    WECHAT,
    WHATSAPP,
    ZOOM,
)

#: Suffix, app, role. Sources: the vendors' published lists of hosts for firewalls, and names seen
#: in DNS and TLS of the captures.
NAMES = (
    ("whatsapp.net", WHATSAPP, MESSAGING),
    ("whatsapp.com", WHATSAPP, MESSAGING),
    ("skype.com", SKYPE, MESSAGING),
    ("skype.net", SKYPE, MESSAGING),
    ("flightproxy.skype.com", SKYPE, SETUP),
    ("skypeassets.com", SKYPE, MESSAGING),
    ("skypedata.akadns.net", SKYPE, MESSAGING),
    ("viber.com", VIBER, MESSAGING),
    ("viber.io", VIBER, MESSAGING),
    ("ess.apple.com", FACETIME, MESSAGING),
    ("edge-mqtt.facebook.com", MESSENGER, MESSAGING),
    ("mqtt-mini.facebook.com", MESSENGER, MESSAGING),
    ("mqtt.facebook.com", MESSENGER, MESSAGING),
    ("messenger.com", MESSENGER, MESSAGING),
    ("signal.org", SIGNAL, MESSAGING),
    ("voip.signal.org", SIGNAL, SETUP),
    ("voip.whispersystems.org", SIGNAL, SETUP),
    ("whispersystems.org", SIGNAL, MESSAGING),
    ("telegram.org", TELEGRAM, MESSAGING),
    ("telegram.me", TELEGRAM, MESSAGING),
    ("t.me", TELEGRAM, MESSAGING),
    ("zoom.us", ZOOM, MESSAGING),
    ("zoom.com", ZOOM, MESSAGING),
    ("teams.microsoft.com", TEAMS, MESSAGING),
    ("teams.live.com", TEAMS, MESSAGING),
    ("tr.teams.microsoft.com", TEAMS, SETUP),
    ("flightproxy.teams.microsoft.com", TEAMS, SETUP),
    ("relay.teams.microsoft.com", TEAMS, SETUP),
    ("lync.com", TEAMS, MESSAGING),
    ("meet.google.com", MEET, MESSAGING),
    ("hangouts.google.com", MEET, MESSAGING),
    ("webex.com", WEBEX, MESSAGING),
    ("wbx2.com", WEBEX, MESSAGING),
    ("ciscospark.com", WEBEX, MESSAGING),
    ("discord.com", DISCORD, MESSAGING),
    ("discord.gg", DISCORD, MESSAGING),
    ("discord.media", DISCORD, MESSAGING),
    ("discordapp.com", DISCORD, MESSAGING),
    ("discordapp.net", DISCORD, MESSAGING),
    ("line.me", LINE, MESSAGING),
    ("line-apps.com", LINE, MESSAGING),
    ("line.naver.jp", LINE, MESSAGING),
    ("kakao.com", KAKAOTALK, MESSAGING),
    ("wechat.com", WECHAT, MESSAGING),
    ("weixin.qq.com", WECHAT, MESSAGING),
    ("wx.qq.com", WECHAT, MESSAGING),
    ("imo.im", IMO, MESSAGING),
    ("snapchat.com", SNAPCHAT, MESSAGING),
    ("addlive.io", SNAPCHAT, SETUP),
    ("agora.io", AGORA, MESSAGING),
    ("sd-rtn.com", AGORA, MESSAGING),
)

SLOTS = 256
LONGEST = 253
DOT = 46


def rules() -> dict[str, int]:
    """Return `app << 8 | role` of every suffix, and 0 for each shorter suffix of these."""
    by_suffix = {suffix: app << 8 | role for suffix, app, role in NAMES}
    for suffix in tuple(by_suffix):
        while suffix := suffix.partition(".")[2]:
            by_suffix.setdefault(suffix, 0)
    return by_suffix


def table(suffixes: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the look-up: slot -> suffix number + 1, the suffixes' text, the start of each.

    Arrays: int64[SLOTS], uint8[octets] (every suffix reversed), int64[suffixes + 1].
    """
    slots = np.zeros(SLOTS, np.int64)
    text = "".join(suffix[::-1] for suffix in suffixes).encode()
    starts = np.cumsum([0] + [len(suffix) for suffix in suffixes])
    for number, suffix in enumerate(suffixes):
        h = 0
        for octet in suffix[::-1].encode():
            h = int(mix(h, octet))
        slot = h & (SLOTS - 1)
        while slots[slot]:
            slot = (slot + 1) & (SLOTS - 1)
        slots[slot] = number + 1
    return slots, np.frombuffer(text, np.uint8).copy(), starts.astype(np.int64)


SLOT, TEXT, START = table(list(rules()))
RULE = np.array(list(rules().values()), np.int64)


@kernel
def plain_name(b: Octets, at: int, length: int, wire: int, signs: Numbers) -> int:
    """Write a name in lower case to signs[SIGN_TEXT:]; `wire`: DNS wire format.

    Returns its length, which is also signs[SIGN_TEXT_LENGTH].
    """
    n, o, stop = 0, at, at + length
    while o < stop and n < LONGEST:
        if wire:
            label = I(b[o])
            o += 1
            if label == 0 or label > 63:
                break
            if n:
                signs[SIGN_TEXT + n] = DOT
                n += 1
            for _ in range(label):
                if o >= stop or n >= LONGEST:
                    break
                signs[SIGN_TEXT + n] = lower(I(b[o]))
                o, n = o + 1, n + 1
        else:
            signs[SIGN_TEXT + n] = lower(I(b[o]))
            o, n = o + 1, n + 1
    signs[SIGN_TEXT_LENGTH] = n
    return n


@kernel
def lower(octet: int) -> int:
    """Return an ASCII letter in lower case."""
    return octet + 32 if 65 <= octet <= 90 else octet


@kernel
def name_rule(b: Octets, at: int, length: int, wire: int, signs: Numbers) -> int:
    """Return `app << 8 | role` of the longest known suffix of a name, 0 for none.

    The name is written to signs in lower case, see plain_name.
    """
    plain_name(b, at, length, wire, signs)
    return text_rule(signs)


@kernel
def text_rule(signs: Numbers) -> int:
    """Return `app << 8 | role` of the longest known suffix of the name in signs[SIGN_TEXT:]."""
    n = I(signs[SIGN_TEXT_LENGTH])
    if signs[SIGN_NAMELESS]:
        return 0
    last = SIGN_TEXT + n - 1
    h, best = I(0), I(0)
    for i in range(n):
        h = mix(h, I(signs[last - i]))
        if i + 1 < n and signs[last - i - 1] != DOT:
            continue
        number = known_suffix(h, signs, last, i + 1)
        if number < 0:  # then no longer suffix is known
            break
        best = I(RULE[number]) or best
    if best == (ZOOM << 8 | MESSAGING) and serves_meetings(signs, n):
        return ZOOM << 8 | SETUP
    return best


@kernel
def known_suffix(h: int, signs: Numbers, last: int, length: int) -> int:
    """Return the number of the suffix of that hash and length which ends at `last`, -1 for none."""
    slot = h & (SLOTS - 1)
    while SLOT[slot]:
        number = I(SLOT[slot]) - 1
        if START[number + 1] - START[number] == length:
            k = I(0)
            while k < length and TEXT[START[number] + k] == signs[last - k]:
                k += 1
            if k == length:
                return number
        slot = (slot + 1) & (SLOTS - 1)
    return -1


@kernel
def serves_meetings(signs: Numbers, n: int) -> bool:
    """Return whether a zoom.us host is a zone controller (zc) or media router (mmr) of meetings."""
    dot = SIGN_TEXT
    while dot < SIGN_TEXT + n and signs[dot] != DOT:
        dot += 1
    if dot - SIGN_TEXT < 6:
        return False
    if signs[dot - 2] == 122 and signs[dot - 1] == 99:
        return True
    return bool(signs[dot - 3] == 109 and signs[dot - 2] == 109 and signs[dot - 1] == 114)
