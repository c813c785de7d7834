# SPDX-License-Identifier: BSD-3-Clause
"""Call quality of one direction of a call's media at the receiver.

Loss, one-way delay and jitter are measured; R and MOS are the E-model's estimates from them, for a
stated codec. All values are compared with the same replay under no policy: the delay is that of the
replayed leg (captures do not have the rest), so a difference means more than a value.

- Jitter: the running estimate of RFC 3550 section 6.4.1 in the integer form of its appendix A.8,
  averaged over the packets. The sending time is that of the script, not the RTP timestamp, whose
  clock is unknown where payload types are dynamic; jitter that the capture itself holds is thus
  part of the script and not counted.
- Delay into the E-model: network, de-jitter buffer and codec. The buffer is adaptive: its delay
  lets LATE of the packets come too late, from BUFFER_LEAST to BUFFER_MOST (an assumption);
  later packets are discarded and counts as lost, as in ITU-T G.1020.
- R = 93.2 - Idd - Ie,eff (ITU-T G.107, sections 7.1, 7.4, 7.5, defaults of 7.7). Echo is assumed
  to be cancelled, as apps do, so that Idd is the only delay impairment; no advantage A.
- Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl) (section 7.5). BurstR is the mean length of the
  bursts of loss over that of random loss, 1 / (1 - loss). Table 1 ends at Ppl = 20 %: a rating of
  more loss than that is an extrapolation, and marked.
- MOS from R: annex B. Wideband: R = 129 - Idd - Ie,eff and MOS at R / 1.29 (ITU-T G.107.1, sections
  7.1, 7.5, annex A), where Ie,eff is for random loss only.
- Ie and Bpl: ITU-T G.113 (11/2007), appendices I and IV. No value of Opus or SILK is published
  there; AMR-WB is the substitute for such wideband codecs. The range over CODECS is part of a
  rating.

- Windows of a call are rated by the same formulas with the loss and bursts of the window, and
  compared with FLOOR_R, the lowest R for which ITU-T G.109 recommends a connection (R 50 to 60:
  "nearly all users dissatisfied"; below 50: "not recommended"). Windows of video calls are rated
  too, as if their packets carried voice: the sound of a video call shares its losses.

MOS is for voice: a video call has none here (ITU-T G.1070 would need codec, size and frame rate).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.testbed.network.jitter import jitter

Numbers = NDArray[np.int64]

#: R of a connection without impairments, and the scale of wideband (G.107 7.7; G.107.1 7.1).
R_NARROW, R_WIDE = 93.2, 129.0
#: Wideband R over narrowband R of the same MOS (G.107.1 annex A).
WIDENING = 1.29
#: Delay without impairment (mT), in ms, and the delay sensitivity sT (G.107 table 1).
DELAY_FREE, SENSITIVITY = 100.0, 1.0
#: Highest share of loss that the E-model is meant for (G.107 table 1).
LOSS_RANGE = 0.20

#: Share of packets that an adaptive de-jitter buffer lets come too late, and its bounds in ns.
LATE = 0.01
BUFFER_LEAST, BUFFER_MOST = 20_000_000, 200_000_000

#: Fewer packets of a direction than this (a second of voice) are not rated.
FEWEST = 50
#: R below which ITU-T G.109 (table 1) does not recommend a connection.
FLOOR_R = 50.0
#: A window of a call with fewer packets than this is not rated.
WINDOW_FEWEST = 10


class Codec(NamedTuple):
    """E-model parameters of a codec: impairment Ie, robustness Bpl, its delay in ms."""

    name: str
    ie: float
    bpl: float
    delay_ms: float
    wide: bool = False


#: 20 ms packets (RFC 3551; RFC 4867), and look-ahead of 5 ms (G.729; G.722.2).
G711 = Codec("G.711 with loss concealment", 0.0, 25.1, 20.0)
G729A = Codec("G.729A with silence suppression", 11.0, 19.0, 25.0)
AMR_WB = Codec("AMR-WB at 12.65 kbit/s", 13.0, 4.3, 25.0, wide=True)

#: The codecs that a rating's range is over. ASSUMED is the one of R, of MOS, and of every verdict:
#: of the three it tolerates loss best, so that DEGRADED needs more loss, not less.
CODECS = (G711, G729A, AMR_WB)
ASSUMED = G711


#: R and MOS under ASSUMED, lowest and highest MOS over CODECS.
Rating = tuple[float | None, float | None, float | None, float | None]


class DirectionQuality(NamedTuple):
    """One direction of a call's media at the end that received it.

    expected: packets that were sent without the policy; arrived: of these; loss: the share that did
    not; late: the share that came too late to be played; delay_ms, jitter_ms: one way, None where
    nothing came; burst: BurstR. r, mos: under ASSUMED; mos_low, mos_high: over CODECS; None where
    the call is no voice call, or too little came. beyond: more loss than the E-model is meant for.
    """

    expected: int
    arrived: int
    loss: float
    late: float
    delay_ms: float | None
    jitter_ms: float | None
    burst: float
    r: float | None
    mos: float | None
    mos_low: float | None
    mos_high: float | None
    beyond: bool


# ---- the E-model


def delay_impairment(delay_ms: float) -> float:
    """Return Idd of a one-way delay from mouth to ear (G.107 section 7.4, equation 7-27)."""
    if delay_ms <= DELAY_FREE:
        return 0.0
    x, power = math.log2(delay_ms / DELAY_FREE), 6 * SENSITIVITY
    first, second = math.pow(1 + x**power, 1 / power), math.pow(1 + (x / 3) ** power, 1 / power)
    return 25 * (first - 3 * second + 2)


def loss_impairment(codec: Codec, loss: float, burst: float = 1.0) -> float:
    """Return Ie,eff of a codec at a share of packets lost (G.107 section 7.5)."""
    percent = 100 * loss
    spread = 1.0 if codec.wide else max(burst, 1.0)
    return codec.ie + (95 - codec.ie) * percent / (percent / spread + codec.bpl)


def rating(codec: Codec, delay_ms: float, loss: float, burst: float = 1.0) -> float:
    """Return R, of 93.2 or, for a wideband codec, of 129; delay_ms: from mouth to ear."""
    best = R_WIDE if codec.wide else R_NARROW
    return max(best - delay_impairment(delay_ms) - loss_impairment(codec, loss, burst), 0.0)


def mos(r: float) -> float:
    """Return the mean opinion score, 1 to 4.5, that R stands for (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


def opinion(codec: Codec, r: float) -> float:
    """Return the MOS of a codec's R on its own scale."""
    return mos(r / WIDENING if codec.wide else r)


# ---- packets


def burst_ratio(lost: NDArray[np.bool_]) -> float:
    """Return BurstR: the mean burst of loss over that of random loss; 1 where nothing is lost.

    lost: per packet in the order sent. A ratio below 1 (losses spread out) counts as random.
    """
    share = float(lost.mean()) if len(lost) else 0.0
    if share in (0.0, 1.0):
        return 1.0
    begins = lost & ~np.concatenate((np.zeros(1, bool), lost[:-1]))
    return max(float(lost.sum() / begins.sum()) * (1 - share), 1.0)


def playout(delay: Numbers) -> int:
    """Return the delay at which an adaptive buffer plays, in ns; delay: of the packets that came.

    A buffer cannot distinguish a change of path from jitter: its bounds count from the fastest
    packet.
    """
    fastest = int(delay.min())
    wanted = int(np.quantile(delay, 1 - LATE, method="inverted_cdf")) - fastest
    return fastest + min(max(wanted, BUFFER_LEAST), BUFFER_MOST)


def hear(sent: Numbers, came: Numbers, voice: bool) -> DirectionQuality | None:
    """Return the measured and rated quality of a direction; None where no packet was expected.

    sent: when each packet was to leave its sender, ns, in order; came: when it arrived, -1 where it
    did not; voice: whether a MOS may be given.
    """
    expected = len(sent)
    if not expected:
        return None
    arrived_mask = came >= 0
    arrived = int(arrived_mask.sum())
    loss = 1 - arrived / expected
    if not arrived:
        return DirectionQuality(
            expected, 0, 1.0, 0.0, None, None, 1.0, None, None, None, None, True
        )
    delay = came[arrived_mask] - sent[arrived_mask]
    buffer = playout(delay)
    late = arrived_mask & (came - sent > buffer)
    gone = ~arrived_mask | late
    burst, share = burst_ratio(gone), float(gone.mean())
    rated: Rating = (None, None, None, None)
    if voice and arrived >= FEWEST:
        rated = rate(buffer / 1e6, share, burst)
    return DirectionQuality(
        expected,
        arrived,
        loss,
        float(late.mean()),
        float(delay.mean()) / 1e6,
        jitter(sent[arrived_mask], came[arrived_mask]) / 1e6,
        burst,
        *rated,
        share > LOSS_RANGE,
    )


def window_ratings(sent: Numbers, came: Numbers, window: Numbers) -> NDArray[np.float64]:
    """Return R under ASSUMED of each window of a direction, NaN for one with too few packets.

    sent, came: ns, int64[n], in the order sent, `came` -1 where a packet never came; window:
    int64[n], the window of each packet, counted from 0. A window in which no packet arrived has R
    0.
    """
    count = int(window.max(initial=-1)) + 1
    out = np.full(count, np.nan)
    arrived_mask = came >= 0
    if not arrived_mask.any():
        out[np.bincount(window, minlength=count) >= WINDOW_FEWEST] = 0.0
        return out
    buffer = playout((came - sent)[arrived_mask])
    gone = ~arrived_mask | (came - sent > buffer)
    for number in range(count):
        own = window == number
        if int(own.sum()) < WINDOW_FEWEST:
            continue
        lost = gone[own]
        mouth_to_ear = buffer / 1e6 + ASSUMED.delay_ms
        share = float(lost.mean())
        alive = share < 1.0
        out[number] = rating(ASSUMED, mouth_to_ear, share, burst_ratio(lost)) if alive else 0.0
    return out


def second_scores(sent: Numbers, came: Numbers, second: Numbers) -> tuple[float | None, ...]:
    """Return the MOS under ASSUMED of each second of a direction, None with too few packets.

    sent, came, second: of each packet, as in `window_ratings`.
    """
    ratings = window_ratings(sent, came, second).tolist()
    return tuple(None if math.isnan(r) else opinion(ASSUMED, r) for r in ratings)


def rate(delay_ms: float, loss: float, burst: float) -> Rating:
    """Return R and MOS under ASSUMED, and the lowest and highest MOS over CODECS.

    delay_ms: of network and buffer; a codec adds its own.
    """
    ratings = {one: rating(one, delay_ms + one.delay_ms, loss, burst) for one in CODECS}
    scores = [opinion(one, r) for one, r in ratings.items()]
    return ratings[ASSUMED], opinion(ASSUMED, ratings[ASSUMED]), min(scores), max(scores)
