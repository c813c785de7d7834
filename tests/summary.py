# SPDX-License-Identifier: BSD-3-Clause
"""`python -m tests.summary FILE`: is this a complete summary of the default experiment?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VERDICTS = {
    "INVALID",
    "INCONCLUSIVE",
    "SIGNALLING_BLOCKED",
    "SETUP_BLOCKED",
    "CONNECTED_NO_MEDIA",
    "ONE_WAY",
    "CUT",
    "FALLBACK",
    "DEGRADED",
    "OK",
}
PARTS = ("captures", "accuracy", "evaluation", "verdict", "calls", "collateral")
TIMED = ("throughput", "latency", "machine")


def problems(summary: dict[str, Any]) -> list[str]:
    """Return everything that a complete summary would not lack."""
    found = [f"{part} is missing" for part in PARTS + TIMED if part not in summary]
    if summary.get("schema") != 1:
        found.append(f"schema is {summary.get('schema')!r}, expected 1")
    if found:
        return found
    calls = summary["calls"]
    verdicts = {call["verdict"] for call in calls}
    if not calls:
        found.append("no call was judged")
    if unknown := verdicts - VERDICTS:
        found.append(f"unknown call verdicts {sorted(unknown)}")
    for date, want in (("2015-12-15", False), ("2016-03-15", True), ("2016-11-15", False)):
        blocked = {call["blocked"] for call in calls if call["date"] == date}
        if blocked and (True in blocked) != want:
            found.append(f"on {date} calls are {'not ' if want else ''}blocked")
    if summary["captures"]["real"] and summary["accuracy"]["false_calls"]["hits"]:
        found.append(f"{summary['accuracy']['false_calls']['hits']} false calls")
    if summary["captures"]["real"] and not summary["evaluation"]["columns"]:
        found.append("nothing was evaluated under disturbance")
    if not summary["throughput"]["offline"]["packets_per_s"]:
        found.append("no throughput was measured")
    return found


def main() -> int:
    """Print every problem; exit code 1 where there is one."""
    found = problems(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print("\n".join(found) or "the summary is complete")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
