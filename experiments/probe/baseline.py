# SPDX-License-Identifier: BSD-3-Clause
"""What a line does by itself: its loss, its delay, and how likely an outcome is without a box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.code_points import code_points_of
from midcall.experiments.probe.prober import MS, Outcome, Prober
from midcall.testbed.network.link import PRESETS
from midcall.testbed.probing.probe import Ends, Probe, Sent
from midcall.testbed.probing.sockets import Delays

#: Share of packets that a rule of certain loss lets through in the model (late packets, errors).
MISS = 0.02
#: Least background loss that is assumed.
LEAST_LOSS = 0.003
#: The same of packets of streams that never arrive, although a kernel sends them again.
LEAST_NEVER, MOST_NEVER = 0.004, 0.9
#: Share of the streams of controls of which a part never arrived from which on a rule strikes
#: them: no line does that whose datagrams arrive.
MOST_STUCK = 0.75
#: Least chance that is assumed of a loss right behind a loss: lines lose packets in bursts.
AGAIN = 0.3
#: Largest variance of losses, compared with that of independent ones, which bad times of a line
#: explain: a rule that strikes some flows of a control makes a larger one.
MOST_INFLATION = 6.0
#: Least share that is assumed of datagrams that others overtake.
LEAST_REORDERED = 0.01
#: Controls of each code point and direction.
EACH = 3
#: Least spread of delays that is assumed, in ns.
LEAST_SPREAD = 1 * MS


class Baseline(NamedTuple):
    """A line without a box. Indices 0 and 1 of the pairs: downwards and upwards.

    loss: share; fixed: delay of a packet without octets, ns; per_octet: ns; spread: robust standard
    deviation of the delay, ns; counts: (lost, sent) of the controls that gave the loss; stuck:
    share of streams of which a part never arrived; again: chance that a packet right behind a lost
    one of its flow and direction is lost, too; inflation: by how much the variance of losses of a
    copy exceeds that of independent ones; reordered: share of datagrams that later ones overtake.
    """

    loss: tuple[float, float]
    fixed: tuple[float, float]
    per_octet: tuple[float, float]
    spread: tuple[float, float]
    counts: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    stuck: tuple[float, float] = (0.0, 0.0)
    again: tuple[float, float] = (AGAIN, AGAIN)
    inflation: tuple[float, float] = (1.0, 1.0)
    reordered: float = LEAST_REORDERED

    @property
    def delays(self) -> Delays:
        """Return the line's own delays, as `play` takes them."""
        down, up = zip(self.fixed, self.per_octet, strict=True)
        return down, up

    def excess(self, outcome: Outcome) -> NDArray[np.float64]:
        """Return each packet's delay beyond the line's own, float64[copies, packets], in ns; nan
        for packets that did not arrive."""
        late = outcome.delay - self.own_delay(outcome)
        return np.asarray(np.where(outcome.delay >= 0, late, np.nan), np.float64)

    def own_delay(self, outcome: Outcome) -> NDArray[np.float64]:
        """Return the line's own delay of each packet, float64[packets], in ns."""
        up = outcome.up.astype(int)
        return np.asarray(np.array(self.fixed)[up] + np.array(self.per_octet)[up] * outcome.size)

    def losses(self, outcome: Outcome) -> NDArray[np.float64]:
        """Return the loss that is expected of each packet."""
        return np.asarray(np.array(self.loss)[outcome.up.astype(int)], np.float64)

    def never(self, outcome: Outcome) -> NDArray[np.float64]:
        """Return how often the line itself keeps a packet from arriving at all: a stream sends
        again what is lost, but after a lost SYN it waits for seconds."""
        losses = self.losses(outcome)
        stuck = np.maximum(np.array(self.stuck)[outcome.up.astype(int)], LEAST_NEVER)
        never = np.where(outcome.streams, np.maximum(6 * losses**2, stuck), losses)
        return np.minimum(never, MOST_NEVER)


def control_units(size: int = 4, points: Sequence[int] = ()) -> list[Probe]:
    """Return units that a box is unlikely to match: datagrams of noise, small and large ones, and
    of zeros, and a stream. Zeros and the smallest ones go to hosts of their own: noise may condemn
    its server. points: code points, of which another unit, before the stream, has each one."""
    near = bytes([198, 18, 0, 1]) if size == 4 else bytes.fromhex("fd4d1944" + "00" * 11 + "01")
    far = bytes([198, 19, 0, 1]) if size == 4 else bytes.fromhex("fd4d1945" + "00" * 11 + "01")
    datagrams, large, plain, tiny, stream = [], [], [], [], []
    others = [(int.from_bytes(far) + number).to_bytes(len(far)) for number in (1, 2)]
    third, fourth = Ends(UDP, near, 4, others[0], 30_221), Ends(UDP, near, 5, far, 29_363)
    fifth = Ends(UDP, near, 6, others[1], 30_497)
    udp, other = Ends(UDP, near, 1, far, 28_411), Ends(UDP, near, 2, far, 31_733)
    tcp = Ends(TCP, near, 3, far, 29_017)
    for number in range(40):
        body = noise(36 + number % 20, "control", number)
        datagrams.append(Sent(number * 12 * MS, number % 2 == 0, udp, body))
    for number in range(16):
        body = noise(800, "large control", number)
        large.append(Sent(number * 30 * MS, number % 2 == 0, other, body))
    for number in range(40):
        body = bytes(20 + number % 16) + bytes([number // 16, number % 16])
        plain.append(Sent(number * 12 * MS, number % 2 == 0, third, body))
    for number in range(40):
        body = noise(4 + number % 8, "tiny control", number)
        tiny.append(Sent(number * 12 * MS, number % 2 == 0, fifth, body))
    for number in range(28):
        body = noise(60, "stream control", number)
        stream.append(Sent(number * 30 * MS, number % 2 == 0, tcp, body))
    marked = []
    for number, dscp in enumerate(point for point in points for _ in range(EACH)):
        for up in (True, False):
            body = noise(40, "marked control", number, up)
            marked.append(Sent((2 * number + (not up)) * 6 * MS, up, fourth, body, dscp=dscp))
    datagram_units = [tuple(datagrams), tuple(large), tuple(plain), tuple(tiny)]
    return [*datagram_units, *([tuple(marked)] if marked else []), tuple(stream)]


def baseline_of(prober: Prober, outcomes: list[Outcome]) -> Baseline:
    """Return the line as controls show it.

    Where a rule strikes one kind of control, the other kinds show the line: of loss and delay the
    smallest over the kinds counts, if it differs from the others by more than chance. Streams that
    (nearly) never end say nothing of the line. Controls with code points show only what becomes of
    these.
    """
    outcomes = [one for one in outcomes if not code_points_of(one.unit)]
    preset = PRESETS[prober.access]
    rates = (preset.down.rate_kbit, preset.up.rate_kbit)
    per_octet = (8e6 / rates[0], 8e6 / rates[1])
    loss, fixed, spread = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    pooled = [(0, 0), (0, 0)]
    stuck, again, inflation = [0.0, 0.0], [AGAIN, AGAIN], [1.0, 1.0]
    for up in (0, 1):
        counts, delays, runs, dispersed = [], [], [], []
        for outcome in outcomes:
            of_way = outcome.up == bool(up)
            sent, lost = outcome.sent[:, of_way], outcome.lost[:, of_way]
            is_stream = any(one.ends.proto == TCP for one in outcome.unit)
            if is_stream and sent.any():
                share = (float(lost.any(axis=1).sum()) + 0.3) / (len(lost) + 1)
                stuck[up] = share if share < MOST_STUCK else 0.0
            if is_stream:  # one loss also holds up the packets behind it
                resent = outcome.resent[:, of_way]
                lost = resent & ~np.roll(resent, 1, axis=1) | resent & (np.arange(
                    resent.shape[1]) == 0)  # fmt: skip
            else:
                dispersed.append(dispersion(lost, sent))
                runs.append((int((lost[:, 1:] & lost[:, :-1]).sum()), int(lost[:, :-1].sum())))
            if sent.sum():
                counts.append((int(lost.sum()), int(sent.sum())))
            rest = (outcome.delay - per_octet[up] * outcome.size)[:, of_way]
            rest = rest[outcome.delay[:, of_way] >= 0]
            if len(rest) >= 3:
                delays.append(rest)
        if runs:
            behind, before = min(runs, key=lambda one: (one[0] + 1) / (one[1] + 3))
            again[up] = max((behind + 1) / (before + 3), AGAIN)
            inflation[up] = min(max(float(np.median(dispersed)), 1.0), MOST_INFLATION)
        pooled[up] = pooled_counts(counts, inflation[up])
        loss[up] = share_of(*pooled[up])
        if delays:
            best = min(delays, key=lambda one: float(np.median(one)))
            near = [
                one for one in delays
                if np.median(one) < np.median(best) + 8 * MS + 2 * deviation(best)
            ]  # fmt: skip
            whole = np.concatenate(near)
            fixed[up] = float(np.median(whole))
            spread[up] = max(deviation(whole), LEAST_SPREAD)
        else:
            fixed[up], spread[up] = 50.0 * MS, 10.0 * MS
    return Baseline(
        (loss[0], loss[1]), (fixed[0], fixed[1]), per_octet, (spread[0], spread[1]),
        (pooled[0], pooled[1]), (stuck[0], stuck[1]), (again[0], again[1]),
        (inflation[0], inflation[1]), reordered_share(outcomes),
    )  # fmt: skip


def reordered_share(outcomes: list[Outcome]) -> float:
    """Return the share of datagrams of controls that later ones overtake, of the kinds of controls
    with the fewest of them."""
    counts = [
        (int(one.overtaken.sum()), int((one.delay >= 0).sum()))
        for one in outcomes
        if one.overtaken is not None and (one.delay >= 0).any() and not one.streams.any()
    ]
    gone, count = pooled_counts(counts)
    return max((gone + 1) / (count + 2), LEAST_REORDERED) if count else LEAST_REORDERED


def medians(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of what is finite in each column, nan for nothing: float64[columns]."""
    columns = (column[np.isfinite(column)] for column in excess.T)
    return np.array([float(np.median(one)) if len(one) else np.nan for one in columns])


def deviation(values: NDArray[np.float64]) -> float:
    """Return a robust standard deviation: from the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def dispersion(lost: NDArray[np.bool_], sent: NDArray[np.bool_]) -> float:
    """Return the variance of the copies' losses over that of independent ones, 1 for no losses."""
    gone, count = lost.sum(axis=1), sent.sum(axis=1)
    share = float(gone.sum()) / max(int(count.sum()), 1)
    expected = float((count * share * (1 - share)).sum())
    rest = float(((gone - count * share) ** 2).sum())
    return rest / expected if expected > 0 and len(gone) > 3 else 1.0


def runs(lost: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of losses."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8)))
    return [int(one) for one in edges[1::2] - edges[::2]]


def pooled_counts(counts: list[tuple[int, int]], inflation: float = 1.0) -> tuple[int, int]:
    """Return (lost, sent) of the controls that show the line itself, of several kinds of them.

    inflation: of the variance of a count of losses, compared with independent ones.
    """
    usable = sorted(counts, key=lambda one: one[0] / one[1])
    if not usable:
        return 0, 0
    lost, sent = usable[0]
    for more_lost, more_sent in usable[1:]:
        share = (lost + more_lost + 1) / (sent + more_sent + 2)
        doubt = math.sqrt(inflation * share * (1 / more_sent + 1 / sent))
        if more_lost / more_sent <= lost / sent + 3.5 * doubt:
            lost, sent = lost + more_lost, sent + more_sent
    if lost > 0.5 * sent:
        return 0, 0  # all controls are struck: that says nothing about the line
    return lost, sent


def share_of(lost: int, sent: int) -> float:
    """Return the background loss that counts suggest, LEAST_LOSS at least."""
    return max((lost + 0.5) / (sent + 1), LEAST_LOSS) if sent else 0.02


def more_than(gone: int, count: int, lost: int, sent: int) -> float:
    """Return the log-likelihood ratio of two shares of losses against one, in nats.

    gone of count: of the packets in question; lost of sent: of controls. Both shares are estimated,
    so it follows that chi-squared / 2 of one degree of freedom (Wilks).
    """
    if not count or not sent or gone / count <= lost / sent:
        return 0.0
    return (
        log_binomial(gone, count) + log_binomial(lost, sent)
        - log_binomial(gone + lost, count + sent)
    )  # fmt: skip


def log_binomial(gone: int, count: int) -> float:
    """Return the log-likelihood of losses at their own share."""
    result = 0.0
    if gone:
        result += gone * math.log(gone / count)
    if gone < count:
        result += (count - gone) * math.log(1 - gone / count)
    return result


def llr_lost(
    lost: NDArray[np.int64], sent: NDArray[np.int64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ln P(losses | struck) - ln P(losses | not struck), for counts over copies."""
    passed = sent - lost
    return np.asarray(
        lost * np.log((1 - MISS) / share) + passed * np.log(MISS / (1 - share)), np.float64
    )
