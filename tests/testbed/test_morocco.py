# SPDX-License-Identifier: BSD-3-Clause
"""Real calls under the hypotheses for 2016: which mechanism stops which, and by which rule."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call, calls
from midcall.captures.truth.catalogue import load as load_catalogue
from midcall.testbed.assess.call_verdict import BLOCKED, judge
from midcall.testbed.policy.loader import load
from midcall.testbed.replay.simulator import simulate

DAY = date(2016, 3, 15)

# capture, call, hypothesis -> verdict (or verdicts), rule
TABLE: list[tuple[str, str, str, str, str | None]] = [
    ("whatsapp_login_call", "WA2015a-1", "signature", "SETUP_BLOCKED", "whatsapp-call"),
    ("whatsapp_login_call", "WA2015a-2", "signature", "SETUP_BLOCKED", "whatsapp-call"),
    ("whatsapp_login_call", "WA2015a-1", "stun", "SETUP_BLOCKED", "stun-any-port"),
    ("whatsapp_login_call", "WA2015a-1", "ports", "OK", "stun-ports"),
    ("whatsapp_login_call", "WA2015a-1", "dns-lie", "SIGNALLING_BLOCKED", "whatsapp-lie"),
    ("whatsapp_login_call", "WA2015a-1", "sni-drop", "INCONCLUSIVE", None),
    ("wa_voice", "WA2019-voice", "signature", "SETUP_BLOCKED", "whatsapp-call"),
    ("wa_voice", "WA2019-voice", "address", "SIGNALLING_BLOCKED", "meta-addresses"),
    ("wa_voice", "WA2019-voice", "sni-drop", "OK", None),
    ("wa_video", "WA2019-video", "signature", "SETUP_BLOCKED", "whatsapp-call"),
    ("viber_mobile", "V2016-1", "signature", "SETUP_BLOCKED", "viber-call"),
    ("viber_mobile", "V2016-1", "ports", "SETUP_BLOCKED", "viber-ports"),
    ("viber_mobile", "V2016-1", "address", "SIGNALLING_BLOCKED", "viber-addresses"),
    ("viber_mobile", "V2016-1", "stun", "OK", None),
    ("skype-conference-call", "SK2017-1", "signature", "SETUP_BLOCKED", "skype-call"),
    ("skype-conference-call", "SK2017-1", "ports", "OK", None),
    ("skype-conference-call", "SK2017-1", "dns-lie", "INCONCLUSIVE", None),
    ("stun_facebook", "FB2021a-1", "signature", "SETUP_BLOCKED", "messenger-call"),
    ("stun_facebook", "FB2021a-1", "media-only", "INCONCLUSIVE", None),
]

SILENCED = [
    ("whatsapp_login_call", "WA2015a-1"),
    ("wa_voice", "WA2019-voice"),
    ("wa_video", "WA2019-video"),
    ("viber_mobile", "V2016-1"),
    ("skype-conference-call", "SK2017-1"),
]


@lru_cache(maxsize=8)
def opened(corpus: Path, name: str) -> tuple[Packets, tuple[Call, ...]]:
    """Return a catalogued capture and its calls; skips where the folder does not hold it."""
    capture = next(one for one in load_catalogue(local=False).captures if one.name == name)
    for path in sorted(corpus.rglob(capture.file)):
        if path.stat().st_size == capture.bytes:
            return read(path), tuple(calls(capture.sha256, with_local=False))
    pytest.skip(f"{capture.file} is not among the real captures")


def verdict_of(corpus: Path, name: str, call: str, hypothesis: str, access: str) -> Any:
    """Return the verdict on a real call under a hypothesis."""
    packets, known = opened(corpus, name)
    policy = load("maroc-telecom").policy(hypothesis, access, DAY)
    control = simulate(packets, known, [], None, access, 1)
    simulation = simulate(packets, known, [], policy, access, 1)
    return judge(simulation, control, next(one for one in known if one.id == call))


@pytest.mark.corpus
@pytest.mark.parametrize(("name", "call", "hypothesis", "word", "rule"), TABLE)
def test_a_hypothesis_does_this_to_a_real_call_on_every_access_network(
    corpus: Path, name: str, call: str, hypothesis: str, word: str, rule: str | None
) -> None:
    for access in ("3g", "adsl", "wifi"):
        verdict = verdict_of(corpus, name, call, hypothesis, access)
        assert (verdict.verdict, verdict.rule) == (word, rule)
        assert verdict.blocked is (word in BLOCKED)


@pytest.mark.corpus
@pytest.mark.parametrize(("name", "call"), SILENCED)
def test_media_only_blocking_lets_a_call_connect_and_go_silent(
    corpus: Path, name: str, call: str
) -> None:
    verdict = verdict_of(corpus, name, call, "media-only", "4g")
    # A recording of under 5 s of media cannot hold a silence that begins within it.
    assert verdict.verdict in ("CONNECTED_NO_MEDIA", "CUT", "DEGRADED")
    assert (verdict.usable, verdict.rule) == (False, "media-of-five")
    assert verdict.blocked is (verdict.verdict != "DEGRADED")
    assert verdict.media_sent == verdict.media_control
    assert verdict.media_lost > 0.9


@pytest.mark.corpus
@pytest.mark.parametrize("hypothesis", ["signature", "media-only", "stun", "ports"])
@pytest.mark.parametrize(
    "name", ["whatsapp_login_chat", "whatsapp", "whatsapp_login_call", "wa_voice"]
)
def test_chat_survives_the_mechanisms_that_fit_what_users_saw(
    corpus: Path, name: str, hypothesis: str
) -> None:
    packets, known = opened(corpus, name)
    policy = load("maroc-telecom").policy(hypothesis, "4g", DAY)
    simulation = simulate(packets, known, [], policy, "4g", 1)
    tcp = simulation.script.held.facts["proto"] == 6
    assert tcp.any()
    assert not (simulation.struck & tcp).any()


@pytest.mark.corpus
@pytest.mark.parametrize("hypothesis", ["address", "dns-lie"])
def test_chat_does_not_survive_addresses_and_names(corpus: Path, hypothesis: str) -> None:
    packets, known = opened(corpus, "wa_voice")
    policy = load("maroc-telecom").policy(hypothesis, "4g", DAY)
    simulation = simulate(packets, known, [], policy, "4g", 1)
    chat = simulation.script.flow == simulation.script.calls[0].signalling[0]
    assert not (simulation.delivered & chat).any()
