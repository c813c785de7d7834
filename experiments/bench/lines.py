# SPDX-License-Identifier: BSD-3-Clause
"""A result of the live bench as text."""

from __future__ import annotations

from typing import Any

from midcall.experiments.bench import goals
from midcall.experiments.bench.live import KERNEL, limit_of

Row = dict[str, Any]


def lines(result: Row) -> list[str]:
    """Return a result as lines of text."""
    live = result["summary"]["live"]
    machine = result["machine"]
    texts = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; load average "
        f"{machine['load_average'][0]:.1f} when it ended",
        "",
        "one-way latency in µs, from when a packet was due",
        f"{'path':17}{'packets/s':>10}{'p50':>10}{'p99':>10}{'p99.9':>10}{'n':>10}{'lost':>8}",
    ]
    for row in result["trials"]:
        if row["what"] == "latency":
            late = row["latency_us"]
            texts.append(
                f"{row['path']:17}{row['pps']:>10}{shown(late['p50'])}{shown(late['p99'])}"
                f"{shown(late['p999'])}{late['n']:>10}{row['lost']:>8}"
            )
    texts += ["", *rate_lines(result), "", *exact_lines(live), "", *goals.lines(result)]
    return texts


def shown(value: float | None) -> str:
    """Return a figure in a column of width ten."""
    return f"{'n/a' if value is None else f'{value:.1f}':>10}"


def rate_lines(result: Row) -> list[str]:
    """Return the table of loss-free rates."""
    live = result["summary"]["live"]
    seconds, trials = result["options"]["seconds"], result["options"]["trials"]
    name = "RFC 2544" if seconds >= 60 else "RFC 2544-style"
    texts = [
        f"highest rate without loss in {trials} of {trials} trials of {seconds:g} s ({name}); "
        "undecided flows (offload: decided)",
        f"{'path':17}{'frames':>8}{'packets/s':>18}{'of kernel':>11}  ended by",
    ]
    for frames, best in live["loss_free_by_frames"].items():
        for path, rate in best.items():
            share = f"{rate / best[KERNEL]:.2f}" if best[KERNEL] else "n/a"
            end = limit_of(result["trials"], path, frames, rate)
            bound = "at least " if end in ("generator", "ladder") else ""
            texts.append(f"{path:17}{frames:>8}{f'{bound}{rate}':>18}{share:>11}  {end}")
    flat = ", ".join(f"{path} {rate:,}" for path, rate in live["flat_out_pps"].items())
    texts.append(f"as fast as one core sends and forwards, packets/s: {flat}")
    for path, by_share in live["share_of_kernel"].items():
        words = ", ".join(
            f"{cell['whole']} of {cell['trials']} at {share}" for share, cell in by_share.items()
        )
        texts.append(f"{path}: trials without loss at shares of the kernel's rate: {words}")
    return texts


def exact_lines(live: Row) -> list[str]:
    """Return measurements against settings, crashes, and the calls."""
    texts = []
    for rate, error in live["delay_error_us"].items():
        texts.append(
            f"delay of {error['set_ms']:g} ms at {rate} packets/s: error p50 "
            f"{error['p50']:.1f} µs, p99 {error['p99']:.1f} µs"
        )
    police, shape, calls_ = live["police"], live["shape"], live["calls"]
    texts += [
        f"police {police['set_kbit']:g} kbit/s: {police['measured_kbit']:g} measured, "
        f"{police['passed']} packets passed, an ideal bucket {police['ideal']}",
        f"shape {shape['set_kbit']:g} kbit/s: {shape['measured_kbit']:g} measured",
    ]
    for row in live["crash"]:
        how = f"longest gap {row['longest_gap_ms']:g} ms"
        if row["fail"] == "closed":
            how = f"the last to come was packet {row['last_came']}"
        texts.append(
            f"killed under {row['pps']} packets/s, fail {row['fail']}: {row['lost']} of "
            f"{row['sent']} lost, {how}"
        )
    texts.append(
        f"{calls_['calls']} calls, {calls_['pps']} packets/s, {calls_['seconds']:g} s: "
        f"{calls_['lost_by_overload']} of {calls_['sent']} lost by overload, {calls_['lost']} "
        f"lost in all, p99 {calls_['latency_us']['p99']} µs"
    )
    return texts
