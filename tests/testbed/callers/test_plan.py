# SPDX-License-Identifier: BSD-3-Clause
"""A plan says what is wrong with it before anything is started."""

from __future__ import annotations

import pytest

from midcall.errors import TestbedError
from midcall.testbed.programs.calls.plan import Plan


def test_a_plan_that_a_program_cannot_do_names_everything_it_could() -> None:
    with pytest.raises(TestbedError) as error:
        Plan("baresip", media="screen", path="turn-tls", seconds=0).check()
    assert str(error.value) == (
        "call baresip-rtp-direct: media: got 'screen', baresip can do audio\n"
        "call baresip-rtp-direct: path: got 'turn-tls', baresip can do direct\n"
        "call baresip-rtp-direct: seconds: got 0, expected above 0 and at most 600.0"
    )


def test_an_unknown_program_is_an_error() -> None:
    assert Plan("firefox").problems() == [
        "caller: got 'firefox', expected one of chromium, aiortc, baresip, sipp"
    ]


@pytest.mark.parametrize("able", [Plan("sipp"), Plan("baresip", security="srtp", registrar=True)])
def test_sip_with_what_a_program_can_do_is_sound(able: Plan) -> None:
    assert able.problems() == []


def test_sipp_speaks_plain_rtp_and_without_a_registrar() -> None:
    assert Plan("sipp", security="srtp", registrar=True).problems() == [
        "security: got 'srtp', sipp can do rtp",
        "registrar: got true, sipp calls without one",
    ]


def test_names_tell_plans_apart() -> None:
    assert Plan(media="audio+video", path="turn-tls").name == "chromium-audio-video-turn-tls"
    assert Plan("baresip", security="srtp", registrar=True).name == "baresip-srtp-registrar"


def test_only_programs_that_make_many_calls_at_once_may_plan_them() -> None:
    assert Plan("sipp", calls=20).problems() == []
    assert Plan("chromium", calls=2).problems() == [
        "calls: got 2, chromium makes one call at a time"
    ]
