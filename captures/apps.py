# SPDX-License-Identifier: BSD-3-Clause
"""The apps whose calls are told apart, once for everybody: truth, verdicts, policies and specs.

A position is an app's number in flow records and files, so a new app goes to the end. "none" is no
call; "other-rtc" is a call by a protocol of its own (H.323, MGCP, SCCP, ...) or of an app that is
not among these.
"""

from __future__ import annotations

APPS = (
    "none",
    "whatsapp",
    "skype",
    "viber",
    "facetime",
    "messenger",
    "signal",
    "telegram",
    "zoom",
    "teams",
    "meet",
    "webex",
    "discord",
    "line",
    "kakaotalk",
    "wechat",
    "imo",
    "snapchat",
    "agora",
    "sip",
    "other-rtc",
)

#: The five whose calls Morocco's operators cut in 2016.
FIVE = APPS[1:6]
