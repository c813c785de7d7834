# SPDX-License-Identifier: BSD-3-Clause
"""The description of a column of a result table: its unit, its meaning, the file that makes it.

It stands next to the column's type in `tables`, as `Annotated[int, Column(...)]`. The page
docs/reference/data.md and the schema.json of a run are made of it (`dictionary`).
"""

from __future__ import annotations

from typing import NamedTuple

#: Every unit of a column, and what a value of it is.
UNITS = {
    "name": "a word of a fixed list, or a name of this project",
    "id": "the id of a thing that a file names",
    "text": "a sentence or several words",
    "hex": "a number in hexadecimal",
    "date": "a day, as 2016-01-20",
    "year": "a year",
    "address": "an IP address",
    "port": "a port number, 0 to 65535",
    "grade": "A, B, C or D, each perhaps with a question mark",
    "number": "a number that only tells things apart",
    "packet number": "the position of a packet in its file, from 1",
    "true or false": "a truth value",
    "packets": "a count",
    "packets per slot": "counts, one per slot",
    "flows": "a count",
    "calls": "a count",
    "captures": "a count",
    "groups": "a count",
    "apps": "a count",
    "batches": "a count",
    "cases": "a count",
    "probes": "a count",
    "questions": "a count",
    "bytes": "a count of octets",
    "share": "a part of a whole, 0 to 1 (a difference of two: -1 to 1)",
    "percent": "hundredths",
    "F1": "harmonic mean of precision and recall, 0 to 1",
    "AUROC": "area under the receiver operating characteristic, 0 to 1",
    "MOS": "mean opinion score, 1 to 5 (ITU-T P.800)",
    "MOS per second": 'mean opinion scores, one per second, separated by spaces; "-": unknown',
    "s": "seconds",
    "s since 1970": "seconds since 1970-01-01 00:00 UTC",
    "ms": "milliseconds",
    "µs": "microseconds",
    "ns per packet": "nanoseconds per packet",
    "packets/s": "packets per second",
    "bytes/s": "octets per second",
    "flows per million": "flows per million flows",
    "bytes per million": "octets per million octets",
    "block": "an object of JSON (summary.json only)",
    "list": "a list of JSON (summary.json only)",
}


class Column(NamedTuple):
    """What a column holds. unit: a key of UNITS; source: the file of the checkout that makes it."""

    unit: str
    meaning: str
    source: str


# ---- sources, as paths from the root of the checkout

CATALOGUE = "captures/truth/catalogue.py"
LABELS = "captures/truth/labels.py"
CALLS = "captures/truth/calls.py"
ENGINE = "classifier/export.py"
POLICY = "testbed/policy/operator.py"
JUDGE = "testbed/assess/call_verdict.py"
QUALITY = "testbed/assess/quality.py"
TIMELINE = "testbed/assess/timeline.py"
LADDER = "experiments/tools/ladder.py"
DECIDING = "experiments/tools/deciding_packet.py"
SPEC = "experiments/spec/grid.py"
METRICS = "experiments/measure/metrics.py"
COLLATERAL = "experiments/measure/collateral.py"
SUMMARY = "experiments/measure/summary.py"
TIMING = "experiments/measure/timing.py"
RUNNER = "experiments/cells/run_cells.py"
RUN = "experiments/run/runner.py"
EVASION = "experiments/cells/evasion_runs.py"
LIVE = "experiments/cells/live_cell.py"
BENCH = "experiments/bench/live.py"
PROGRAMS = "experiments/livecalls/tables.py"
INCIDENTS = "experiments/probe/incidents.py"
PROBE_PAIRS = "experiments/proofs/prober/live_agreement.py"
LAWS = "experiments/proofs/verdict_laws.py"
LOCALISER = "experiments/proofs/localiser/score.py"
PERTURB = "experiments/accuracy/perturb.py"
SCORES = "experiments/accuracy/scores.py"
OPENSET = "experiments/accuracy/openset.py"
