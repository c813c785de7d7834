# SPDX-License-Identifier: BSD-3-Clause
"""The result of a live bench as text for the terminal."""

from __future__ import annotations

from typing import Any

from midcall.experiments.bench import goals
from midcall.experiments.bench.live import KERNEL, limit_of

Row = dict[str, Any]


def lines(result: Row) -> list[str]:
    """Return the result of a live bench as lines of text."""
    live = result["summary"]["live"]
    machine = result["machine"]
    texts = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; load average "
        f"{machine['load_average'][0]:.1f} at the end of the bench",
        "",
        "one-way latency in µs, counted from the time at which a packet was due",
        f"{'path':17}{'packets/s':>10}{'p50':>10}{'p99':>10}{'p99.9':>10}{'n':>10}{'lost':>8}",
    ]
    for row in result["trials"]:
        if row["what"] == "latency":
            latency = row["latency_us"]
            texts.append(
                f"{row['path']:17}{row['pps']:>10}{shown(latency['p50'])}{shown(latency['p99'])}"
                f"{shown(latency['p999'])}{latency['n']:>10}{row['lost']:>8}"
            )
    texts += ["", *rate_lines(result), "", *exactness_lines(live), "", *goals.lines(result)]
    return texts


def shown(value: float | None) -> str:
    """Return a figure right-aligned in ten characters."""
    return f"{'n/a' if value is None else f'{value:.1f}':>10}"


def rate_lines(result: Row) -> list[str]:
    """Return the table of loss-free rates, the rates at full speed, and the trials at the shares.

    "limited by" is the end of the ladder (live.limit_of): loss, the sender, the generator, or the
    ladder's highest rate. In the last two cases the loss-free rate is a lower bound.
    """
    live = result["summary"]["live"]
    seconds, trials = result["options"]["seconds"], result["options"]["trials"]
    name = "RFC 2544" if seconds >= 60 else "RFC 2544-style"
    texts = [
        f"highest rate at which each of {trials} trials of {seconds:g} s had no loss ({name}); "
        "flows: decided on the path offload, undecided on the others",
        f"{'path':17}{'frames':>8}{'packets/s':>18}{'of kernel':>11}  limited by",
    ]
    for frames, best in live["loss_free_by_frames"].items():
        for path, rate in best.items():
            share = f"{rate / best[KERNEL]:.2f}" if best[KERNEL] else "n/a"
            limit = limit_of(result["trials"], path, frames, rate)
            bound = "at least " if limit in ("generator", "ladder") else ""
            texts.append(f"{path:17}{frames:>8}{f'{bound}{rate}':>18}{share:>11}  {limit}")
    full_speed = ", ".join(f"{path} {rate:,}" for path, rate in live["flat_out_pps"].items())
    texts.append(f"full speed, one core sends and forwards, packets/s: {full_speed}")
    for path, by_share in live["share_of_kernel"].items():
        words = ", ".join(
            f"{cell['whole']} of {cell['trials']} at {share}" for share, cell in by_share.items()
        )
        texts.append(f"{path}: trials without loss, at each share of the kernel's rate: {words}")
    return texts


def exactness_lines(live: Row) -> list[str]:
    """Return the lines on exactness, on a killed box, and on the calls.

    Exactness compares the delay and the rates that are set with those that are measured.
    """
    texts = []
    for rate, error in live["delay_error_us"].items():
        texts.append(
            f"delay of {error['set_ms']:g} ms at {rate} packets/s: error p50 "
            f"{error['p50']:.1f} µs, p99 {error['p99']:.1f} µs"
        )
    police, shape, calls = live["police"], live["shape"], live["calls"]
    texts += [
        f"police {police['set_kbit']:g} kbit/s: {police['measured_kbit']:g} measured, "
        f"{police['passed']} packets passed, an ideal token bucket passes {police['ideal']}",
        f"shape {shape['set_kbit']:g} kbit/s: {shape['measured_kbit']:g} measured",
    ]
    for row in live["crash"]:
        how = f"longest gap {row['longest_gap_ms']:g} ms"
        if row["fail"] == "closed":
            how = f"the last packet to arrive was number {row['last_came']}"
        texts.append(
            f"box killed at {row['pps']} packets/s, fail {row['fail']}: {row['lost']} of "
            f"{row['sent']} packets lost, {how}"
        )
    texts.append(
        f"{calls['calls']} calls, {calls['pps']} packets/s, {calls['seconds']:g} s: "
        f"{calls['lost_by_overload']} of {calls['sent']} packets lost by overload, "
        f"{calls['lost']} lost in total, latency p99 {calls['latency_us']['p99']} µs"
    )
    return texts
