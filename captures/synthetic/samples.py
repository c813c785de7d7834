# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples: the committed captures, one recipe each."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Literal, NamedTuple

from midcall.access import CapturedAccess
from midcall.captures.synthetic import (
    facetime,
    game,
    messenger,
    skype,
    telephone,
    tunnels,
    viber,
    web,
    whatsapp,
)
from midcall.captures.synthetic.encapsulate import ETHERNET, Envelope, envelope
from midcall.captures.synthetic.scene import Crafted, Scene
from midcall.captures.wire.seeded import SECOND

Kind = Literal["audio", "video", "unknown", "none"]

#: Seconds of media per call: slightly more than the five that a call verdict needs.
TALK = 6.0


class Recipe(NamedTuple):
    """How one sample is made.

    app: what was called with, "none" for a capture without a call; year: of the client it is
    modelled on; make: (name, time of the start in ns) -> capture.
    """

    name: str
    app: str
    kind: Kind
    year: int
    content: str
    make: Callable[[str, int], Crafted]
    suffix: Literal["pcap", "pcapng"] = "pcap"
    access: CapturedAccess = "unknown"
    notes: str = ""

    @property
    def file(self) -> str:
        """Return the name of the file."""
        return f"{self.name}.{self.suffix}"

    def craft(self) -> Crafted:
        """Return the capture and its truth."""
        start = datetime.datetime(self.year, 3, 1, 12, tzinfo=datetime.UTC)
        return self.make(self.name, int(start.timestamp()) * SECOND)


def played(act: Callable[[Scene], object], link: Envelope = ETHERNET) -> Callable[..., Crafted]:
    """Return a maker that plays an act in an empty scene and develops it."""

    def make(name: str, epoch: int) -> Crafted:
        scene = Scene(name, epoch)
        act(scene)
        return scene.develop(link)

    return make


# ---- acts that need more than one line


def whatsapp_audio(scene: Scene) -> None:
    """Play a 2015 voice call and the chat connection that announced it."""
    chat = whatsapp.chat_2015(scene, scene.epoch, 4)
    whatsapp.audio_call(scene, "call-1", 8, whatsapp.TALKER_2015, TALK, chat)


def whatsapp_thin(scene: Scene) -> None:
    """Play a 2019 voice call on a thin link."""
    whatsapp.audio_call(scene, "call-1", 5, whatsapp.TALKER_2019, TALK)


def whatsapp_chat(scene: Scene) -> None:
    """Play chat of two generations, and a picture."""
    whatsapp.chat_2015(scene, scene.epoch, 5)
    whatsapp.chat_2019(scene, scene.epoch + SECOND, 5)
    whatsapp.pictures(scene, scene.epoch + 2 * SECOND)


def skype_presence(scene: Scene) -> None:
    """Play the classic client's overlay traffic and its sign-in."""
    skype.presence(scene, 40)
    skype.sign_in(scene, scene.epoch, "api.skype.com")
    skype.sign_in(scene, scene.epoch + SECOND, "apps.skypeassets.com")


def browsing(scene: Scene) -> None:
    """Play pages over TLS, one without encryption, and QUIC."""
    web.pages(scene)
    web.plain(scene)
    web.datagrams(scene)


def games(scene: Scene) -> None:
    """Play three kinds of games."""
    game.shooter(scene, 4)
    game.matchmaking(scene)
    game.console(scene, 2)


UNSEEN = "No public capture holds this: it is built from published descriptions only."

RECIPES = [
    Recipe(
        "sample-whatsapp-audio", "whatsapp", "audio", 2015,
        "voice call, eight relays, then straight to the peer; the chat that announced it",
        played(whatsapp_audio),
    ),
    Recipe(
        "sample-whatsapp-video", "whatsapp", "video", 2019,
        "video call, header-extension profile DEBE, bandwidth probes",
        played(lambda scene: whatsapp.video_call(scene, "call-1", 5.5)),
    ),
    Recipe(
        "sample-whatsapp-gtp", "whatsapp", "audio", 2019,
        "voice call inside GTP-U with a PDU session container",
        played(whatsapp_thin, envelope("gtp-u-extended")), access="4g",
    ),
    Recipe(
        "sample-whatsapp-chat", "none", "none", 2019,
        "WhatsApp chat of 2015 and 2019, and a picture", played(whatsapp_chat),
    ),
    Recipe(
        "sample-skype-audio", "skype", "audio", 2017,
        "voice call between peers: ICE with Microsoft's attributes, SRTP",
        played(lambda scene: skype.call_2017(scene, "call-1", TALK)), "pcapng",
    ),
    Recipe(
        "sample-skype-classic", "skype", "audio", 2014,
        "voice call between peers of the classic client, beside its presence traffic",
        played(lambda scene: skype.call_classic(scene, "call-1", TALK)),
        notes="Media of the classic client are in no public capture: built from descriptions.",
    ),
    Recipe(
        "sample-skype-presence", "none", "none", 2015,
        "Skype presence: supernode requests from one port, sign-in", played(skype_presence),
    ),
    Recipe(
        "sample-viber-audio", "viber", "audio", 2016, "relayed voice call",
        played(lambda scene: viber.call(scene, "call-1", TALK)),
    ),
    Recipe(
        "sample-viber-pppoe", "viber", "audio", 2016,
        "relayed voice call inside PPPoE under a VLAN tag",
        played(lambda scene: viber.call(scene, "call-1", TALK), envelope("pppoe-vlan")),
        access="adsl",
    ),
    Recipe(
        "sample-viber-chat", "none", "none", 2016, "Viber chat and stickers",
        played(lambda scene: viber.chat(scene, scene.epoch, 6)),
    ),
    Recipe(
        "sample-facetime-muxed", "facetime", "audio", 2013,
        "voice call: STUN, compact SIP and RTP type 104 on one port",
        played(lambda scene: facetime.call_2013(scene, "call-1", TALK)), notes=UNSEEN,
    ),
    Recipe(
        "sample-facetime-pairs", "facetime", "audio", 2015,
        "voice call: 16-byte openings, types 0FE0/0EE0, RTP type 104",
        played(lambda scene: facetime.call_pairs(scene, "call-1", TALK)), notes=UNSEEN,
    ),
    Recipe(
        "sample-facetime-framed", "facetime", "audio", 2024,
        "voice call behind the proprietary header that starts with 60",
        played(lambda scene: facetime.call_framed(scene, "call-1", TALK)), "pcapng", notes=UNSEEN,
    ),
    Recipe(
        "sample-facetime-push", "none", "none", 2020,
        "Apple's push courier and identity service, no call", played(facetime.push),
    ),
    Recipe(
        "sample-messenger-audio", "messenger", "audio", 2021,
        "voice call relayed by TURN, realm turner.facebook, SRTP in a channel",
        played(lambda scene: messenger.call(scene, "call-1", TALK)), "pcapng",
        notes="Set-up follows a real one; media of a Messenger call are in no public capture.",
    ),
    Recipe(
        "sample-messenger-chat", "none", "none", 2021, "Messenger chat, MQTT over TLS",
        played(messenger.chat),
    ),
    Recipe(
        "sample-sip-audio", "sip", "audio", 2016, "SIP call with G.729, RTCP beside it",
        played(lambda scene: telephone.call(scene, "call-1", TALK)),
    ),
    Recipe(
        "sample-web", "none", "none", 2016, "pages over TLS, HTTP and QUIC", played(browsing)
    ),
    Recipe("sample-dns", "none", "none", 2016, "DNS lookups", played(web.lookups)),
    Recipe(
        "sample-games", "none", "none", 2016,
        "game traffic: counters, bare STUN keep-alives, random payloads that begin as RTP does",
        played(games),
    ),
    Recipe(
        "sample-tunnels", "none", "none", 2016,
        "one short flow in each encapsulation, IPv4 and IPv6 inside", tunnels.tour, "pcapng",
    ),
]  # fmt: skip
