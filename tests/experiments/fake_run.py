# SPDX-License-Identifier: BSD-3-Clause
"""A run that is obviously fake: result files as the runner writes them, for the report's tests."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from midcall.captures.truth.catalogue import Capture
from midcall.experiments.cells import recorded
from midcall.experiments.measure import collateral, metrics, summary
from midcall.experiments.results import dictionary, schema
from midcall.experiments.results.tables import LadderLine

Row = dict[str, Any]

NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
OPERATORS = ("maroc-telecom", "inwi", "meditel")
DATES = ("2015-12-15", "2016-01-20", "2016-03-15", "2016-11-15")
LABELS = ("before the block", "mobile only", "fixed lines too", "after it was lifted")
ACCESSES = ("3g", "4g", "adsl", "wifi")
#: What a box was found to decide by, as a document of experiments.localiser.
LOCALISED: Row = {
    "schema": 3, "file": "fake-wa-2015-a", "box": "fake/stun on 4g", "rules": "0badc0de",
    "masked": True, "packets": 90, "flows": 3, "blocked": True, "complete": True, "notes": [],
    "checks": 44, "refuted": [], "noise": 0.0,
    "error": 0.0, "budget": 20000,
    "cost": {"questions": 70, "probes": 70, "packets": 900, "octets": 90000, "seconds": 60.0},
    "clauses": [{
        "words": ["is a STUN message", "packet 3 or more of its flow"],
        "calls": ["packets", "stun"], "of_capture": True, "needs_packets": 3,
        "windows": [{"since": "the flow's first packet", "packets": [3, None], "loaded": None,
                     "bytes": None, "seconds": None}],
        "struck": {"packets": 4, "bytes": 400, "seconds": 0.25},
        "packets": [{
            "number": 17, "ms": 250.0, "direction": "up",
            "flow": "udp 198.18.x.x:4000-198.19.x.x:3478", "payload": 20, "payload_at": 28,
            "marks": [{"at": 32, "length": 4, "caption": "STUN cookie", "secret": False}],
            "hex": " ".join(["45", *[".."] * 27, "00", "01", "00", "00", "21", "12", "a4", "42",
                             *[".."] * 12]),
        }],
    }],
    "sufficient": [["packets", "stun"]], "necessary": [["packets"], ["stun"]],
}  # fmt: skip
#: id, title, grade, apps it blocks, verdict it causes, share of innocent flows it hits
HYPOTHESES: tuple[tuple[str, str, str | None, tuple[str, ...], str, float], ...] = (
    ("fake-verdict", "Fake: drop the flows that the classifier names as calls", "C",
     ("whatsapp", "skype", "viber", "facetime", "messenger"), "SETUP_BLOCKED", 0.0),
    ("fake-stun", "Fake: drop STUN on any port", "B", ("whatsapp", "messenger", "skype"),
     "SETUP_BLOCKED", 0.02),
    ("fake-media", "Fake: let the set-up pass and drop the media", "C", ("whatsapp", "viber"),
     "CONNECTED_NO_MEDIA", 0.001),
    ("fake-names", "Fake: forge DNS answers and drop TLS by server name", None, (), "OK", 0.004),
)  # fmt: skip
#: capture, year, group, app, kind, synthetic, added
CALLS: tuple[tuple[str, int, str, str, str, bool, bool], ...] = (
    ("fake-wa-2015-a", 2015, "FAKE1", "whatsapp", "audio", False, False),
    ("fake-wa-2015-b", 2015, "FAKE1", "whatsapp", "audio", False, False),
    ("fake-wa-2019-voice", 2019, "FAKE2", "whatsapp", "audio", False, False),
    ("fake-wa-2019-video", 2019, "FAKE2", "whatsapp", "video", False, False),
    ("fake-viber-2016", 2016, "FAKE3", "viber", "audio", False, False),
    ("fake-viber-2016-reduced", 2016, "FAKE3", "viber", "audio", False, False),
    ("fake-skype-2017", 2017, "FAKE4", "skype", "audio", False, False),
    ("fake-messenger-2021", 2021, "FAKE5", "messenger", "unknown", False, False),
    (f"fake-own {NASTY}", 2014, "FAKE6", "whatsapp", "audio", False, True),
    ("fake-made-facetime", 2016, "FAKE7", "facetime", "video", True, False),
    ("fake-made-messenger", 2016, "FAKE8", "messenger", "audio", True, False),
)
PROTOCOLS = (("quic", 900), ("dns", 2400), ("tls", 1500), ("webrtc of others", 60), ("game", 310))


def in_force(access: str, date: str) -> bool:
    """Tell whether the fake policy blocks there and then."""
    fixed = access in ("adsl", "wifi")
    return ("2016-02-26" if fixed else "2016-01-05") <= date < "2016-11-04"


def fake_calls() -> list[Row]:
    rows = []
    for operator in OPERATORS:
        for name, title, grade, apps, verdict, _ in HYPOTHESES:
            for access in ACCESSES:
                if access in ("adsl", "wifi") and operator != "maroc-telecom":
                    continue
                for date in DATES:
                    for call in CALLS:
                        struck = in_force(access, date) and call[3] in apps
                        says = "INCONCLUSIVE" if name == "fake-names" else verdict
                        word = says if in_force(access, date) and (struck or not apps) else "OK"
                        rows.append(
                            call_row(call, operator, (name, title, grade), access, date, word)
                        )
    return rows


def call_row(
    call: Sequence[Any],
    operator: str,
    hypothesis: tuple[str, str, str | None],
    access: str,
    date: str,
    verdict: str,
) -> Row:
    capture, year, group, app, kind, synthetic, added = call
    blocked = verdict not in ("OK", "INCONCLUSIVE")
    return {
        "capture": capture, "capture_year": year, "group": group, "app": app, "kind": kind,
        "call": "c1", "synthetic": synthetic, "added": added, "later_client": year > 2016,
        "operator": operator, "hypothesis": hypothesis[0], "hypothesis_title": hypothesis[1],
        "access": access, "date": date, "documented": True, "verdict": verdict,
        "blocked": blocked, "usable": not blocked,
        "rule": f"{hypothesis[0]}-rule" if blocked else None,
        "grade": hypothesis[2], "packets_to_block": 3 if blocked else None,
        "ms_to_block": 41.5 if blocked else None, "media_sent": 500,
        "media_delivered": 0 if blocked else 500, "media_control": 500,
        "media_lost": 1.0 if blocked else 0.0, "recognised": app != "messenger",
        "reason": f"Fake reason for {verdict} {NASTY}" if added else f"Fake reason for {verdict}",
    }  # fmt: skip


def fake_timelines() -> list[Row]:
    """Return both directions of one WhatsApp, one Viber and one made FaceTime call."""
    rows = []
    for call, verdict in ((CALLS[0], "CUT"), (CALLS[4], "ONE_WAY"), (CALLS[9], "SETUP_BLOCKED")):
        about = call_row(call, "inwi", HYPOTHESES[2][:3], "4g", DATES[1], verdict)
        kept = ("operator", "hypothesis", "hypothesis_title", "access", "date", "capture", "call",
                "app", "kind", "synthetic", "grade", "verdict", "blocked", "rule")  # fmt: skip
        for direction, came in (("up", [4] * 20 + [0] * 40), ("down", [5] * 60)):
            due, spoke = [5] * 60, 4.0 if direction == "up" else None
            counts = {"due": due, "sent": due, "came": came, "struck": [0] * 60}
            rows.append(
                {key: about[key] for key in kept}
                | {"places": "inwi/4g/2016-01-20", "direction": direction, "seconds": 12.0}
                | {"recognised_s": 0.25, "spoke_s": spoke, "media_lost": 0.5, "mos": 1.2}
                | {"mos_low": 1.0, "mos_high": 2.1, "mos_control": 4.4, "delay_ms": 10.0}
                | {"delay_control_ms": 10.0, "jitter_ms": 0.0}
                | {"mos_seconds": "4.40 2.10 - 1.00", "mos_control_seconds": "4.40 4.40 - 4.40"}
                | {key: sum(held) for key, held in counts.items()}
                | {f"{key}_slots": " ".join(map(str, held)) for key, held in counts.items()}
            )
    return rows


def fake_ladders() -> list[Row]:
    """Return the ladder of a blocked WhatsApp call, and that of the added call without rules."""
    keys = dictionary.described(LadderLine)
    line = {key.name: None if key.nullable else key.type() for key in keys}
    one = {"kind": "packet", "frame": 1, "attempt": 1, "what": f"STUN request {NASTY}", "sent": 1,
           "remote": "UDP 31.13.x.x:3478", "begin_s": 0.0, "end_s": 0.0, "bytes": 154}  # fmt: skip
    some = {"kind": "packets", "what": "media", "sent": 412, "begin_s": 1.5, "end_s": 12.25}
    decided = {
        "recognises": True, "acts": True, "decided_by": "classifier", "octets_at": 42,
        "named": "certain whatsapp setup", "evidence": "STUN attribute 0x4000 first",
        "payload_at": 42, "octets": "00 03 00 6a 21 12 a4 42" + " .." * 12 + " 40 00" + " .." * 40,
        "marks": json.dumps([[44, 2, "length 106"], [62, 2, "attribute 0x4000"]]),
    }  # fmt: skip
    rule = {"rule": "sig-rule"}
    lines = [
        one | {"direction": "up", "delivered": 1, "arrived_s": 0.02},
        one | {"direction": "down", "delivered": 1, "delayed": 1, "delay_ms": 120.0} | rule,
        one | {"direction": "up", "dropped": 1} | decided | rule,
        one | {"kind": "injected", "direction": "down", "what": "TCP reset", "sent": 0,
               "injected": 1} | rule,
        one | {"direction": "down", "lost": 1, "attempt": 2},
        some | {"direction": "up", "delivered": 3, "dropped": 409} | rule,
        some | {"direction": "down", "delivered": 412},
        some | {"direction": "local", "delivered": 412},
        {"kind": "not_sent", "not_sent": 12},
        {"kind": "others", "sent": 30, "delivered": 30},
    ]  # fmt: skip
    rows: list[Row] = []
    added = next(call for call in CALLS if call[6])
    for call, operator, held in ((CALLS[0], "inwi", lines), (added, "none", lines[:1])):
        place = {"operator": operator, "hypothesis": "sig", "hypothesis_title": f"A title {NASTY}",
                 "access": "4g", "date": DATES[1], "capture": call[0], "call": "c1",
                 "places": "inwi/4g/2016-01-20" if operator == "inwi" else ""}  # fmt: skip
        rows += [line | place | more | {"line": at} for at, more in enumerate(held, 1)]
    return rows


def fake_collateral() -> list[Row]:
    return [
        {
            "operator": operator, "hypothesis": name, "access": access, "date": date,
            "protocol": protocol, "flows": flows, "untested": 0,
            "hit": round(share * flows) if in_force(access, date) else 0,
            "bytes": flows * 4000, "bytes_hit": round(share * flows) * 4000, "groups": 12,
            "low": share / 2, "high": share * 2, "all_low": share / 2, "all_high": share * 2,
        }
        for operator in OPERATORS
        for name, _, _, _, _, share in HYPOTHESES
        for access in ACCESSES
        if operator == "maroc-telecom" or access not in ("adsl", "wifi")
        for date in DATES
        for protocol, flows in PROTOCOLS
    ]  # fmt: skip


def fake_bystander_calls() -> list[Row]:
    return [
        {**fake_place("fake-stun"), "app": app, "calls": 12, "blocked": blocked, "degraded": 0,
         "seconds": 240, "seconds_lost": 20 * blocked}
        for app, blocked in (("zoom", 3), ("sip", 0))
    ]  # fmt: skip


def fake_place(hypothesis: str) -> Row:
    return {"operator": "inwi", "hypothesis": hypothesis, "access": "4g", "date": DATES[1]}


def fake_mixes() -> list[Row]:
    return [
        {**fake_place("fake-stun"), "share": share, "protocol": "all innocent",
         "flows_per_million": 20_000 * (1 - share), "flows_low": 9_000.0, "flows_high": 31_000.0,
         "bytes_per_million": 700.0, "bytes_low": 1.0, "bytes_high": 900.0, "of_hits": 0.75,
         "groups": 12}
        for share in (0.001, 0.01, 0.1)
    ]  # fmt: skip


def fake_cells() -> list[Row]:
    rows = []
    for operator in OPERATORS:
        for name, *_ in HYPOTHESES:
            for access in ACCESSES:
                bare = access in ("adsl", "wifi") and operator != "maroc-telecom"
                rows += [
                    {"operator": operator, "hypothesis": name, "access": access, "date": date,
                     "status": "undocumented" if bare else "done", "error": None, "key": "fake",
                     "seconds": None if bare else 0.1}
                    for date in DATES
                ]  # fmt: skip
    return rows


def flow_row(call: Sequence[Any], at: int, role: str, dice: random.Random, **more: Any) -> Row:
    capture, year, group, app, _, synthetic, added = call
    row: Row = {
        "capture": capture, "sha256": hashlib.sha256(capture.encode()).hexdigest(),
        "synthetic": synthetic,
        "added": added, "year": year, "group": group, "innocent": False, "frame": at + 1,
        "proto": "udp", "src_ip": "192.168.x.x", "src_port": 40000 + at, "dst_ip": "31.13.x.x",
        "dst_port": 3478, "packets": 300, "bytes": 50_000, "first_ts": 1.0, "last_ts": 9.0,
        "verdict": "certain", "app": app, "family": app, "role": role, "confidence": 0.99,
        "packets_to_verdict": dice.choice((1, 1, 1, 2, 2, 3, 6)),
        "ms_to_verdict": dice.choice((0.0, 0.0, 1.2, 14.0, 40.0, 230.0)),
        "evidence": "Fake: STUN attribute 0x4000 first, packet 1", "truth_app": app,
        "truth_role": role, "truth_call": "c1", "truth_confidence": "high", "outcome": "right",
        "replayed": True,
    }  # fmt: skip
    return row | more


def fake_flows() -> list[Row]:
    dice = random.Random(7)
    rows = [
        flow_row(call, at, "media" if at == 0 else "setup", dice)
        for call in CALLS
        for at in range(5)
    ]
    rows[7] |= {"app": "none", "verdict": "unsure", "outcome": "unsure"}
    rows[22] |= {"app": "discord", "outcome": "other_call"}
    rows[36] |= {"app": "none", "verdict": "not-call", "outcome": "missed"}
    quiet = ("fake-web", 2020, "FAKEWEB", "none", "none", False, False)
    rows += [
        flow_row(
            quiet, at, "other", dice, innocent=True, verdict="not-call", app="none",
            truth_call=None, outcome="quiet", evidence=NASTY if at == 0 else "Fake: TLS",
        )
        for at in range(900)
    ]  # fmt: skip
    return rows


def fake_recognised() -> list[Row]:
    return [
        {"app": "viber", "synthetic": False, "n": 1, "hits": 1, "share": 1.0, "interval": None},
        {"app": "whatsapp", "synthetic": False, "n": 5, "hits": 4, "share": 0.8, "interval": None},
        {"app": "facetime", "synthetic": True, "n": 1, "hits": 1, "share": 1.0, "interval": None},
    ]


def fake_baselines() -> list[Row]:
    keys = ("call_flows", "called_a_call", "right", "five_flows", "five_right")
    more = ("innocent_flows", "false_calls")
    return [
        {"name": name} | dict(zip((*keys, *more), numbers, strict=True))
        for name, numbers in (
            ("midcall", (45, 43, 42, 45, 42, 900, 0)),
            ("ports", (45, 30, 11, 45, 11, 900, 7)),
        )
    ]


def fake_recordings() -> Iterator[tuple[Capture, list[Row]]]:
    """Yield two recordings: a call of which one flow was missed, and a data channel."""
    facts: Row = {
        "file": "x", "bytes": 1, "packets": 1, "year": 2026, "access": "4g", "group": "g",
        "licence": "CC0-1.0", "recorded": True,
    }  # fmt: skip
    call = {"role": "call", "app": "other-rtc", "kind": "audio", "media": True}
    quiet = {"role": "innocent", "app": "none", "kind": "none", "media": False}
    kinds = (("call", call, "fake: a call over TLS"), ("data", quiet, "fake: a data channel"))
    for number, (name, more, content) in enumerate(kinds):
        one = Capture(name=f"lab-{name}", sha256=f"{number:064x}", content=content, **facts | more)
        said = {"capture": one.name, "frame": 1, "role": "other", "evidence": f"fake {NASTY}"}
        wrong = {"outcome": "missed", "verdict": "not-call", "app": "none"}
        right = {"outcome": "right", "verdict": "certain", "app": "other-rtc"}
        if name == "data":
            wrong = {"outcome": "false_call", "verdict": "certain", "app": "other-rtc"}
            right = {"outcome": "quiet", "verdict": "unsure", "app": "other-rtc"}
        truth = {"truth_app": one.app, "truth_role": "media" if name == "call" else "other"}
        yield one, [said | truth | wrong, said | truth | right]


def fake_summary(flows: Sequence[Mapping[str, Any]], seed: int = 1) -> Row:
    real = [row for row in flows if not row["synthetic"]]
    made = [row for row in flows if row["synthetic"]]
    return {
        "schema": 1,
        "captures": {
            "real": 10,
            "synthetic": 2,
            "missing": 1,
            "missing_list": [
                {"capture": "fake-lost", "sha256": "ab", "reason": "fake: no network"}
            ],
            "cut": 1,
            "copies": ["fake-viber-copy"],
        },
        "warnings": [f"fake-cut.pcap: cut in record 12 {NASTY}"],
        "accuracy": metrics.accuracy(real, seed)
        | {"calls_recognised": fake_recognised(), "baselines": fake_baselines()}
        | {"synthetic": {"apps": metrics.by_app_and_role(made, seed)}},
        "recorded": recorded.summarise(fake_recordings()),
        "verdict": metrics.waits(real),
        "collateral": collateral.other_costs(
            {"mixes": fake_mixes(), "bystander_calls": fake_bystander_calls()}
        )
        | {"by_protocol": summary.by_protocol(fake_collateral())},
        "latency": {"offline": {"ns_per_packet": {"p50": 91.0, "p99": 240.0, "p999": 900.0},
                                "method": "fake: batches of 64 packets"}},
        "throughput": {"offline": {"packets_per_s": 4.93e6, "bytes_per_s": 1.5e9}},
        "machine": {"cpu": "Fake CPU", "cores": 2, "governor": None},
    }  # fmt: skip


def fake_run(folder: Path, **replaced: Sequence[Row]) -> Path:
    """Write a fake run that keeps the contract; `replaced` names tables with other rows."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Sequence[Row]] = {
        "flows": fake_flows(),
        "calls": fake_calls(),
        "timelines": fake_timelines(),
        "ladders": fake_ladders(),
        "bystander_calls": fake_bystander_calls(),
        "mixes": fake_mixes(),
        "collateral": fake_collateral(),
        "cells": fake_cells(),
        "latency": [
            {"path": "offline", "percentile": q, "ns_per_packet": ns, "batch": 64, "n": 15625}
            for q, ns in ((50.0, 91.0), (90.0, 130.0), (99.0, 240.0), (99.9, 900.0))
        ],
        "throughput": [
            {"path": path, "file": "fake-mix.pcap", "packets": 1_000_000, "bytes": 320_000_000,
             "seconds": seconds, "packets_per_s": 1e6 / seconds, "bytes_per_s": 3.2e8 / seconds}
            for path, seconds in (("offline", 0.203), ("fake peer", 1.27))
        ],
    } | replaced  # fmt: skip
    for name, rows in tables.items():
        schema.write_table(folder, name, rows)
    dates = "\n".join(
        f'[[dates]]\ndate = {date}\nlabel = "{label}"'
        for date, label in zip(DATES, LABELS, strict=True)
    )
    apps = '["whatsapp", "skype", "viber", "facetime", "messenger"]'
    (folder / "spec.toml").write_text(
        f'schema = 1\nname = "fake"\ntitle = "A fake run"\nquestion = "Is <this> escaped?"\n'
        f"apps = {apps}\n{dates}\n"
    )
    (folder / "localised.json").write_text(json.dumps({"schema": 3, "boxes": [LOCALISED]}))
    (folder / "provenance.json").write_text(
        json.dumps({"git": {"commit": "fake", "dirty": True}, "versions": {"fake": "1"}})
    )
    (folder / "summary.json").write_text(json.dumps(fake_summary(tables["flows"])))
    return folder
