# SPDX-License-Identifier: BSD-3-Clause
"""A probe as a measurement in OONI's data format (ooni/spec, df-000, df-007 and df-008).

docs/reference/ooni-nettest.md is the test's specification; ooni.schema.json in this folder is its
JSON schema. Nothing about the user is written: the address is 127.0.0.1 and the country is ZZ.
"""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path
from typing import Any

from midcall.experiments.probe.prober import Prober
from midcall.experiments.probe.run import Probed, Request
from midcall.experiments.results.provenance import midcall_version

NAME, VERSION, DATA_FORMAT = "call_middlebox", "0.1.0", "0.2.0"
SCHEMA = Path(__file__).with_name("ooni.schema.json")
TIME = "%Y-%m-%d %H:%M:%S"


def measurement(request: Request, probed: Probed, began: datetime.datetime) -> dict[str, Any]:
    """Return a probe as a measurement. began: UTC."""
    answer, prober = probed.answer, probed.prober
    return {
        "annotations": {
            "line": "namespaces" if prober.lab_only else "virtual",
            "access": prober.access,
        },
        "data_format_version": DATA_FORMAT,
        "extensions": {"netevents": 0},
        "id": str(uuid.UUID(int=prober.rng.getrandbits(128), version=4)),
        "input": None,
        "measurement_start_time": began.strftime(TIME),
        "options": [f"access={prober.access}", f"seed={request.seed}", f"noise={request.noise}"],
        "probe_asn": "AS0",
        "probe_cc": "ZZ",
        "probe_ip": "127.0.0.1",
        "software_name": "midcall",
        "software_version": midcall_version(),
        "test_helpers": {"backend": {"type": "midcall-helper", "address": "198.18.0.0/15"}},
        "test_keys": test_keys(answer, prober),
        "test_name": NAME,
        "test_runtime": round(prober.line + prober.watched, 3),
        "test_start_time": began.strftime(TIME),
        "test_version": VERSION,
    }


def test_keys(answer: dict[str, Any], prober: Prober) -> dict[str, Any]:
    """Return the keys of the test: the answer, the probes, and the last network events."""
    return {
        "failure": None if answer["verdict"] != "cannot tell" else "unknown_failure",
        **{key: answer[key] for key in ANSWER},
        "probes": [
            {"question": one.question, "copies": one.copies, "runtime": round(one.seconds, 3),
             "packets": one.packets, "num_bytes": one.octets, "answer": one.answer}
            for one in prober.record
        ],
        "line_runtime": answer["line_s"],
        "watch_runtime": round(prober.watched, 1),
        "network_events": network_events(prober),
    }  # fmt: skip


#: Keys of the answer that a measurement has as they are.
ANSWER = ("blocked", "verdict", "trigger", "act", "direction", "scope", "begin", "residual_s",
          "probability", "rule_toml", "alternatives")  # fmt: skip


def network_events(prober: Prober) -> list[dict[str, Any]]:
    """Return one event per probe: what was written, from its begin to its end, in s."""
    result: list[dict[str, Any]] = []
    time = 0.0
    for number, one in enumerate(prober.record, 1):
        result.append(
            {"failure": None, "num_bytes": one.octets, "operation": "write_to", "proto": "udp",
             "t0": round(time, 3), "t": round(time + one.seconds, 3), "tags": [],
             "transaction_id": number}
        )  # fmt: skip
        time += one.seconds
    return result


def write(path: Path, request: Request, probed: Probed) -> None:
    """Write a measurement to a file, one JSON document on one line as OONI's reports have it."""
    began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    path.write_text(json.dumps(measurement(request, probed, began)) + "\n", encoding="utf-8")
