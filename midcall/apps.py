# SPDX-License-Identifier: BSD-3-Clause
"""The apps whose calls are distinguished, once for truth, verdicts, policies, specs and reports.

A position is an app's number in flow records and files, so a new app goes to the end. "none" is no
call; "other-rtc" is a call by a protocol of its own (H.323, MGCP, SCCP, ...) or of an app that is
not in this list.
"""

from __future__ import annotations

#: Each app, with its name as its users write it.
WRITTEN = {
    "none": "no call",
    "whatsapp": "WhatsApp",
    "skype": "Skype",
    "viber": "Viber",
    "facetime": "FaceTime",
    "messenger": "Messenger",
    "signal": "Signal",
    "telegram": "Telegram",
    "zoom": "Zoom",
    "teams": "Teams",
    "meet": "Meet",
    "webex": "Webex",
    "discord": "Discord",
    "line": "LINE",
    "kakaotalk": "KakaoTalk",
    "wechat": "WeChat",
    "imo": "imo",
    "snapchat": "Snapchat",
    "agora": "Agora",
    "sip": "SIP",
    "other-rtc": "other calls",
}
APPS = tuple(WRITTEN)

#: The five whose calls Morocco's operators cut in 2016.
FIVE = APPS[1:6]
