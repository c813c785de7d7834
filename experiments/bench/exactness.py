# SPDX-License-Identifier: BSD-3-Clause
"""Exactness of the live box: its effect on packets compared with its settings.

Delay, policing and shaping against their settings, a crash under load, a thousand calls at once.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls as calls_of
from midcall.captures.truth.paths import samples
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.forwarding import mac
from midcall.testbed.live.devices.load_generator import (
    CALLS,
    FIXED,
    Generator,
    Traffic,
    preferred,
    traffic,
)
from midcall.testbed.live.devices.paths import measured_policy
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.replay.run import Capture, simulate
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.excerpt import excerpt

Row = dict[str, Any]

#: G.711 in 20 ms packets: 160 octets, RTP, UDP, IPv4, Ethernet.
CALL_SIZE, CALLS_AT_ONCE, CALL_RATE = 214, 1000, 100_000
#: Octet that identifies packets of the trials in the log.
RUN = 0x4D

DELAY_MS, DELAY_RATES = 20.0, (100, 1000, 10_000)
POLICE_KBIT, BUCKET_BYTES, POLICE_RATE = 130.0, 2000, 250
SHAPE_KBIT, SHAPE_QUEUE_MS, SHAPE_RATE = 1000.0, 100.0, 1500
CRASH_RATE, CRASH_AFTER = 20_000, 0.4
#: Capture that is replayed for its timing: 50 packets a second each way, of a synthetic call.
REPLAYED, REPLAY_SECONDS = "sample-whatsapp-audio.pcap", 10.0


def made_up(**words: Any) -> Policy:
    """Return a policy of one rule that meets every datagram."""
    rule = {
        "name": "bench",
        "match": {"protocol": "udp"},
        "grade": "C",
        "source": "the bench's own",
    }
    return Policy((Rule.model_validate(rule | words),))


@contextmanager
def bench_box(
    policy: Policy, generator_core: int, box_core: int, log: int, **options: Any
) -> Iterator[tuple[Box, Generator, bytes]]:
    """Open a network with a box, and a generator with priority on its core."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        settings = {"core": box_core, "log_packets": log, "run": RUN} | options
        box = stack.enter_context(Box(network, policy, 1, **settings))
        generator = stack.enter_context(Generator(network))
        stack.enter_context(preferred(generator_core))
        yield box, generator, mac(network.box_pid, network.ports.b0)


def steady(target: bytes, size: int = 200) -> Traffic:
    """Return one flow of tagged frames."""
    load = traffic(FIXED, (size,), 1, target, str(size))
    load.frames[:, 7] = RUN
    return load


def exactness(generator_core: int, box_core: int) -> Row:
    """Return the errors of delay, policing and shaping against their settings, and a crash."""
    return {
        "delay": delay_error(generator_core, box_core),
        "police": police_error(generator_core, box_core),
        "shape": shape_error(generator_core, box_core),
        "crash": [crash(generator_core, box_core, fail) for fail in ("open", "closed")],
        "replay_error_us": replay_error(),
    }


def delay_error(generator_core: int, box_core: int) -> list[Row]:
    """Return per rate the error of a delay of 20 ms: arrival minus entry minus setting."""
    rows = []
    most = round(max(DELAY_RATES) * 0.8) + 1
    with bench_box(
        made_up(act="delay", delay_ms=DELAY_MS), generator_core, box_core, most
    ) as opened:
        box, generator, target = opened
        for rate in DELAY_RATES:
            errors = []
            for _ in range(3):
                trial = generator.burst(steady(target), rate)
                entered = box.log()["in_time"][: trial.sent]
                arrived = trial.arrivals > 0
                errors.append((trial.arrivals - entered)[arrived] / 1000 - DELAY_MS * 1000)
            error = np.concatenate(errors)
            rows.append(
                {
                    "set_ms": DELAY_MS,
                    "pps": rate,
                    "n": len(error),
                    "error_us": {
                        key: round(float(np.percentile(error, share)), 2)
                        for key, share in (("min", 0), ("p50", 50), ("p99", 99), ("p999", 99.9))
                    },
                }
            )
    return rows


def police_error(generator_core: int, box_core: int) -> Row:
    """Return what a policer let through, and what an ideal token bucket would at the same times."""
    words = {"act": "police", "rate_kbit": POLICE_KBIT, "bucket_bytes": BUCKET_BYTES}
    with bench_box(made_up(**words), generator_core, box_core, 2000) as (box, generator, target):
        trial = generator.trial(steady(target), POLICE_RATE, 4.0)
        entered = box.log()["in_time"][: trial.sent].copy()
    size = 200 - 14
    tokens, last, ideal = float(BUCKET_BYTES), int(entered[0]), 0
    for time in entered.tolist():
        tokens = min(tokens + (time - last) * POLICE_KBIT * 1000 / 8e9, float(BUCKET_BYTES))
        last = time
        if tokens >= size:
            tokens -= size
            ideal += 1
    passed = int((trial.arrivals > 0).sum())
    span = (entered[-1] - entered[0]) / 1e9
    return {
        "set_kbit": POLICE_KBIT,
        "offered_kbit": round(POLICE_RATE * size * 8 / 1000, 1),
        "measured_kbit": round(float((passed * size - BUCKET_BYTES) * 8 / 1000 / span), 2),
        "passed": passed,
        "ideal": ideal,
    }


def shape_error(generator_core: int, box_core: int) -> Row:
    """Return the rate of a shaper's output, and the rate that was set."""
    words = {"act": "shape", "rate_kbit": SHAPE_KBIT, "queue_ms": SHAPE_QUEUE_MS}
    with bench_box(made_up(**words), generator_core, box_core, 0) as (_, generator, target):
        trial = generator.trial(steady(target), SHAPE_RATE, 2.0)
    arrived = trial.arrivals[trial.arrivals > 0]
    span = (arrived.max() - arrived.min()) / 1e9
    return {
        "set_kbit": SHAPE_KBIT,
        "offered_kbit": round(SHAPE_RATE * (200 - 14) * 8 / 1000, 1),
        "measured_kbit": round(float((len(arrived) - 1) * (200 - 14) * 8 / 1000 / span), 2),
        "n": len(arrived),
    }


def crash(generator_core: int, box_core: int, fail: str) -> Row:
    """Kill the box's worker under load; returns what came out before and after."""
    with bench_box(Policy(), generator_core, box_core, 0, fail=fail) as (box, generator, target):
        timer = threading.Timer(CRASH_AFTER, box.kill)
        timer.start()
        trial = generator.trial(steady(target), CRASH_RATE, 1.0)
        timer.join()
    arrived = np.flatnonzero(trial.arrivals > 0)
    gaps = np.diff(arrived, prepend=-1) - 1
    return {
        "fail": fail,
        "pps": CRASH_RATE,
        "sent": trial.sent,
        "lost": trial.lost,
        "last_came": int(arrived.max()) if len(arrived) else None,
        "longest_gap_ms": round(float(gaps.max(initial=0)) * 1000 / CRASH_RATE, 2),
    }


def replay_error() -> Row:
    """Replay a committed sample at original speed; returns how late its packets were sent."""
    path = samples().folder / REPLAYED
    sample_calls = calls_of(hashlib.sha256(path.read_bytes()).hexdigest())
    part = excerpt(read(path), sample_calls, [], REPLAY_SECONDS)
    played = simulate([Capture(path.stem, part.packets, part.calls)], None, "fibre", 1)
    error = played.error_us
    return {
        key: round(float(np.percentile(error, share)), 2)
        for key, share in (("p50", 50), ("p99", 99))
    } | {"n": len(error), "capture": path.stem, "seconds": REPLAY_SECONDS}


# ---- calls


def calls(generator_core: int, box_core: int, seconds: float) -> Row:
    """Carry a thousand calls at once, both ways, open loop; returns how many packets were lost and
    where."""
    with bench_box(measured_policy(), generator_core, box_core, 0) as (box, generator, target):
        load = traffic(CALLS, (CALL_SIZE,), CALLS_AT_ONCE, target, str(CALL_SIZE))
        trial = generator.trial(load, CALL_RATE, seconds)
        counters = box.counters()
        box.stop()
        flows = len(box.flows())
    return {
        "calls": CALLS_AT_ONCE,
        "pps": CALL_RATE,
        "seconds": seconds,
        "sent": trial.sent,
        "lost": trial.lost,
        "lost_by_overload": counters["dropped_by_overload"],
        "dropped_by_policy": counters["dropped_by_policy"],
        "flows_seen": flows,
        "sent_late": trial.sent_late,
        "latency_us": trial.percentiles(),
    }
