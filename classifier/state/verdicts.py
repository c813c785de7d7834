# SPDX-License-Identifier: BSD-3-Clause
"""The verdicts, apps and roles of flows, as the small integers that flow records hold.

The position of a name in its tuple is its number. Names are for output.
"""

from __future__ import annotations

from midcall import apps
from midcall.captures.jit.kernel import I, kernel

VERDICTS = ("undecided", "not-call", "unsure", "certain")
UNDECIDED, NOT_CALL, UNSURE, CERTAIN = 0, 1, 2, 3

ROLES = ("other", "media", "setup", "control", "messaging")
OTHER, MEDIA, SETUP, CONTROL, MESSAGING = 0, 1, 2, 3, 4

APPS = (*apps.APPS, "meta", "microsoft", "rtc")
NONE = 0
WHATSAPP, SKYPE, VIBER, FACETIME, MESSENGER = 1, 2, 3, 4, 5
SIGNAL, TELEGRAM, ZOOM, TEAMS, MEET, WEBEX, DISCORD, LINE = 6, 7, 8, 9, 10, 11, 12, 13
KAKAOTALK, WECHAT, IMO, SNAPCHAT, AGORA, SIP, OTHER_RTC = 14, 15, 16, 17, 18, 19, 20
#: Where the octets identify only the maker: META is WhatsApp or Messenger, MICROSOFT is Skype or
#: Teams. RTC is a call of an unknown app. OTHER_RTC is a call by another protocol (H.323, MGCP,
#: SCCP, ...) that belongs to none of the named apps.
META, MICROSOFT, RTC = (len(apps.APPS) + at for at in range(3))


def number_of(app: str) -> int:
    """Return the number of an app; raises ValueError for a name that is not in APPS."""
    return APPS.index(app)


#: The apps of one maker that share a stack, by the maker's number.
MADE_BY = {META: (WHATSAPP, MESSENGER), MICROSOFT: (SKYPE, TEAMS)}

#: The numbers of the five whose calls Morocco's operators cut in 2016.
FIVE = tuple(APPS.index(app) for app in apps.FIVE)


#: The maker of each app that shares its stack, by the app's number (a maker's own too); else 0.
MAKER_OF = tuple(
    next((maker for maker, apps in MADE_BY.items() if app in (maker, *apps)), 0)
    for app in range(len(APPS))
)

#: The family of each app, by the app's number: the maker's name, else the app's own.
FAMILIES = tuple(APPS[MAKER_OF[app] or app] for app in range(len(APPS)))


def recognises(named: int, app: int) -> bool:
    """Return whether the app of a verdict is right for a call's flow, as far as a flow can show it.

    named: the app of the verdict; app: the true one. RTC is right for OTHER_RTC. MICROSOFT is right
    for Skype and Teams, which share their whole stack.
    """
    if named == RTC:
        return app == OTHER_RTC
    return named == app or (named == MICROSOFT and app in MADE_BY[MICROSOFT])


@kernel
def maker_of(app: int) -> int:
    """Return the maker of an app that shares its stack with others, 0 for other apps."""
    if app in (WHATSAPP, MESSENGER, META):
        return META
    return MICROSOFT if app in (SKYPE, TEAMS, MICROSOFT) else I(0)
