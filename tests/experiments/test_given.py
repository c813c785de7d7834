# SPDX-License-Identifier: BSD-3-Clause
"""Classifiers that the user gives: rows are read, errors reported, the truth is not shown.

Two plants are judged: a cheater that learned addresses falls where addresses are replaced, an
oracle that knows payloads stays right until these are random.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.captures.packets.pcap import read
from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth.catalogue import load
from midcall.errors import ExperimentError
from midcall.experiments.accuracy import classifier, measure_flows, run
from midcall.experiments.accuracy.peers import bounded_program, given, given_rows
from midcall.experiments.accuracy.peers.cache import Answers
from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.perturb import COLUMNS
from midcall.experiments.cells import offline
from midcall.experiments.cli.app import app
from midcall.experiments.measure import metrics
from midcall.experiments.report import evaluation
from midcall.experiments.results import schema
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import PacketIndex, index_packets
from tests.experiments.small_spec import small_spec

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "captures" / "samples"
HOWTO = ROOT / "docs" / "howto" / "evaluate.md"
NAMES = ("sample-whatsapp-audio", "sample-viber-audio")
PYTHON = sys.executable
FLOW = key(17, "192.0.2.1", 50000, "192.0.2.2", 3478)
HEADER = "proto,src_ip,src_port,dst_ip,dst_port,app,verdict"
ROW = "udp,192.0.2.1,50000,192.0.2.2,3478"
Row = dict[str, Any]


def csv_of(*lines: str, header: str = HEADER) -> bytes:
    """Return the output of a program."""
    return "\n".join((header, *lines, "")).encode()


# ---- rows


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("viber,certain", ("certain", "viber", "media")),
        (",certain", ("certain", "rtc", "media")),
        ("META,Unsure", ("unsure", "meta", "media")),
        ("microsoft,certain", ("certain", "microsoft", "media")),
        ("viber,not-call", ("not-call", "viber", "messaging")),
        (",not-call", ("not-call", "none", "other")),
        ("none,not-call", ("not-call", "none", "other")),
    ],
)
def test_a_row_is_a_claim(said: str, claim: tuple[str, str, str]) -> None:
    answer, reason = given_rows.of_csv(csv_of(f"{ROW},{said}"))
    assert reason == ""
    made = given_rows.claim(answer[FLOW])
    assert (made["verdict"], made["app"], made["role"]) == claim


def test_flows_match_in_both_directions_columns_in_any_order_and_the_strongest_row_counts() -> None:
    header = "verdict,APP, extra,dst_port,dst_ip,src_port,src_ip,proto"
    lines = (
        "unsure,,x,50000,192.0.2.1,3478,192.0.2.2,17",
        "certain,viber,x,3478,192.0.2.2,50000,192.0.2.1,UDP",
    )
    answer, reason = given_rows.of_csv(b"\xef\xbb\xbf" + csv_of(*lines, header=header))
    assert (reason, list(answer)) == ("", [FLOW])
    assert given_rows.claim(answer[FLOW])["app"] == "viber"
    assert given_rows.claim(())["verdict"] == "not-call"
    other = given_rows.of_csv(csv_of("icmp,192.0.2.1,,192.0.2.2,,,not-call"))
    assert other == ({}, "")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", "printed nothing, not even a header"),
        (b"hello\nworld\n", "line 1: the header has no column proto, src_ip, src_port, dst_ip"),
        (csv_of(f"{ROW},vibr,certain"), "line 2: unknown app 'vibr' (did you mean viber?)"),
        (csv_of(f"{ROW},viber,yes"), "line 2: unknown verdict 'yes' (known: certain, not-call"),
        (csv_of(f"{ROW},none,certain"), "line 2: app none with verdict certain"),
        (csv_of("", f"{ROW},viber"), "line 3: no value in column verdict"),
        (csv_of("upd,192.0.2.1,1,192.0.2.2,2,,unsure"), "line 2: unknown protocol 'upd'"),
        (csv_of("udp,192.0.2.1,70000,192.0.2.2,2,,unsure"), "line 2: src_port is no port: '70000'"),
        (csv_of("udp,host,1,192.0.2.2,2,,unsure"), "line 2: 'host' does not appear to be an IPv4"),
        (csv_of('udp,"' + "x" * 200_000), "line 2: field larger than field limit"),
        (bytes(range(256)), "line 1"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_line(output: bytes, words: str) -> None:
    answer, reason = given_rows.of_csv(output)
    assert answer == {}
    assert reason.startswith(words)
    assert "\n" not in reason


def test_rows_beside_a_wrong_one_count_and_wrong_ones_are_counted() -> None:
    wrong = f"{ROW},viber,maybe"
    answer, reason = given_rows.of_csv(csv_of(wrong, f"{ROW},viber,certain", wrong, wrong))
    assert list(answer) == [FLOW]
    assert reason.startswith("line 2: unknown verdict 'maybe'")
    assert reason.endswith("(and 2 more such rows)")


# ---- programs


def test_a_program_runs_without_a_shell_and_its_output_is_used() -> None:
    ended = bounded_program.run([PYTHON, "-c", "import sys; print(sys.argv[1:])", "$HOME; ls"], 20)
    assert ended == (b"['$HOME; ls']\n", "")


@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [
        ("import sys; sys.exit('no\\x1b model\\nhere')", 20,
         "ended with code 1; its stderr: no? model | here"),
        ("import os; os.kill(os.getpid(), 9)", 20, "was ended by signal 9; its stderr is empty"),
        ("import sys, time; sys.stderr.write('still at it'); sys.stderr.flush(); time.sleep(60)",
         5.0, "took more than 5 s; its stderr: still at it"),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", 0.5, "took more than 0.5 s"),
    ],
)  # fmt: skip
def test_a_program_that_fails_or_hangs_has_a_reason(code: str, seconds: float, reason: str) -> None:
    start = time.monotonic()
    ended = bounded_program.run([PYTHON, "-c", code], seconds)
    assert ended.output == b""
    assert ended.reason.startswith(reason)
    assert time.monotonic() - start < 20


def test_output_is_bounded_and_children_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_program, "OUTPUT", 1 << 20)
    ended = bounded_program.run([PYTHON, "-c", "while True: print('x' * 9999)"], 30)
    assert ended.reason.startswith("printed more than 1 MiB")
    child = "import subprocess as s; n = s.DEVNULL; "
    child += "print(s.Popen(['sleep', '60'], stdout=n, stderr=n).pid)"
    number = int(bounded_program.run([PYTHON, "-c", child], 30).output)
    for _ in range(100):
        state = Path(f"/proc/{number}/stat")
        if not state.exists() or " Z " in state.read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child of a program runs on")
    missing = bounded_program.run(["/nothing/here"], 1)
    assert missing.reason.startswith("could not be started")


# ---- names and commands


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat capture", "does not say where the file's path goes: write {capture}"),
        ("no-such-program {capture}", "'no-such-program' is no program that can be run"),
        ("x='cat {capture}", "is no list of words"),
        ("ndpi=cat {capture}", "'ndpi' is another engine's name"),
        ("midcall=cat {capture}", "'midcall' is another engine's name"),
    ],
)
def test_a_command_that_cannot_work_is_refused_before_anything_runs(text: str, words: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(words)):
        given.command(text)
    result = CliRunner().invoke(app, ["evaluate", "--classifier", text])
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_command_has_the_name_that_is_given_or_its_files(tmp_path: Path) -> None:
    script = tmp_path / "my model.py"
    script.write_text("")
    assert given.command("mine=cat {capture}").name == "mine"
    assert given.command("cat {capture}").name == "cat"
    assert given.command(f"{PYTHON} --x=1 '{script}' {{capture}}").name == "my-model"
    with pytest.raises(ExperimentError, match="two are called 'cat'"):
        given.chosen(["cat {capture}", "cat {capture} {capture}"])
    with pytest.raises(ExperimentError, match="is no name"):
        classifier("my model", lambda path: [])


def test_answers_are_kept_until_the_program_or_the_packets_change(tmp_path: Path) -> None:
    script, count, capture = (tmp_path / name for name in ("c.py", "count", "a.pcapng"))
    text = f"open({str(count)!r}, 'a').write('x')\nprint({HEADER!r})\n"
    text += f"print({ROW + ',viber,certain'!r})\n"
    script.write_text(text)
    capture.write_bytes(b"one")
    answers = Answers(tmp_path / "kept")

    def asked() -> int:
        assert answers.ask(given.command(how), capture) == ({FLOW: ("certain viber",)}, "")
        return len(count.read_text())

    how = f"{PYTHON} {script} {{capture}}"
    assert [asked(), asked()] == [1, 1]
    capture.write_bytes(b"two")
    assert [asked(), asked()] == [2, 2]
    script.write_text(text + "# another\n")
    assert [asked(), asked()] == [3, 3]
    how = f"{PYTHON} {script} {{capture}} --more"
    assert asked() == 4
    script.write_text(f"open({str(count)!r}, 'a').write('x')\nprint('nonsense')\n")
    for total in (5, 6):  # what has an error is not kept
        assert answers.ask(given.command(how), capture)[1].startswith("line 1: the header")
        assert len(count.read_text()) == total


def test_a_program_that_always_hangs_is_not_asked_for_ever(tmp_path: Path) -> None:
    capture = tmp_path / "a.pcapng"
    capture.write_bytes(b"one")
    slow = given.command("sleep 60 {capture}", 0.1)
    reasons = [slow.ask(str(capture))[1] for _ in range(5)]
    assert [reason.split(",")[0].split(";")[0] for reason in reasons] == (
        ["ended with code 1"] * 5 if "invalid" in reasons[0] else
        ["took more than 0.1 s"] * 3 + ["was not asked"] * 2
    )  # fmt: skip


def test_a_function_that_raises_or_returns_no_rows_has_a_reason(tmp_path: Path) -> None:
    capture = tmp_path / "a.pcapng"
    capture.write_bytes(b"one")

    def broken(path: str) -> Iterable[Row]:
        yield {"proto": 17}
        raise KeyError(path)

    odd: Any = lambda path: [7]  # noqa: E731
    none: Any = lambda path: None  # noqa: E731
    assert classifier("a", broken).ask(str(capture))[1].startswith("raised KeyError: ")
    assert (
        classifier("b", odd).ask(str(capture))[1] == "row 1: a row is a mapping of columns, not int"
    )
    assert classifier("c", none).ask(str(capture))[1].startswith("raised TypeError")
    row = dict(
        zip(
            HEADER.split(","),
            [17, "192.0.2.1", 50000, "192.0.2.2", 3478, None, "unsure"],
            strict=True,
        )
    )
    assert classifier("d", lambda path: [row]).ask(str(capture)) == ({FLOW: ("unsure",)}, "")


# ---- plants: from captures to tables


def items() -> Iterator[Item]:
    """Yield the samples with their truth."""
    for name in NAMES:
        one = load(local=False).named(name)
        calls, labels = call_truth.calls(one.sha256), label_truth.labels(one.sha256)
        yield Item(one, SAMPLES / one.file, calls, labels)


def flows(path: str | Path) -> Iterator[tuple[Row, set[bytes], set[int]]]:
    """Yield the ends of each flow of a file, the starts of its payloads, its flows in the index."""
    packets = read(path)
    records, numbers = offline.classify_packets(packets, "x", {})
    facts = index_packets(packets).facts
    starts: dict[int, set[bytes]] = defaultdict(set)
    found: dict[int, set[int]] = defaultdict(set)
    for number, fact in zip(numbers.tolist(), facts, strict=True):
        found[number].add(int(fact["flow"]))
        if fact["end"] - fact["at"] >= 16:
            starts[number].add(bytes(packets.data[fact["at"] : min(fact["end"], fact["at"] + 24)]))
    for number, record in enumerate(records):
        ends = {name: record[name] for name in HEADER.split(",")[:5]}
        yield ends, starts[number], found[number]


def learned() -> tuple[dict[str, str], dict[bytes, str]]:
    """Return address -> app and start of a payload -> app, of the samples' truth."""
    addresses: dict[str, set[str]] = defaultdict(set)
    payloads: dict[bytes, set[str]] = defaultdict(set)
    for item in items():
        index: PacketIndex = index_packets(read(item.path))
        truths = {one.flow: one for one in measure_flows.truths(item, index)}
        for ends, starts, numbers in flows(item.path):
            apps = {
                truths[at].app if at in truths and truths[at].role in metrics.SCORED_ROLES else ""
                for at in numbers
            }
            for address in (ends["src_ip"], ends["dst_ip"]):
                addresses[address] |= apps
            for start in starts:
                payloads[start] |= apps

    def sure(table: dict[Any, set[str]]) -> dict[Any, str]:
        return {at: min(apps) for at, apps in table.items() if len(apps) == 1 and "" not in apps}

    return sure(addresses), sure(payloads)


NOSY = """
import json, os, sys
call = {"argv": sys.argv, "comparison": os.listdir(os.path.dirname(sys.argv[1])),
        "environment": dict(os.environ), "file": open(sys.argv[1], "rb").read().hex()}
here = os.path.dirname(os.path.abspath(__file__))
open(os.path.join(here, "calls", str(os.getpid())), "w").write(json.dumps(call))
print("proto,src_ip,src_port,dst_ip,dst_port,app,verdict")
"""
WRONG = f"print({HEADER!r}); print('6,192.0.2.1,1,192.0.2.2,2,skipe,certain')"


def example() -> str:
    """Return the program of the page."""
    return re.findall(r"^```python\n(import csv.*?)^```", HOWTO.read_text(), re.M | re.S)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the programs."""
    made = tmp_path_factory.mktemp("given")
    (made / "calls").mkdir()
    (made / "small.toml").write_text(small_spec(*NAMES))
    (made / "nosy.py").write_text(NOSY)
    (made / "wrong.py").write_text(WRONG)
    (made / "exits.py").write_text("import sys; sys.exit('no licence')")
    (made / "mine.py").write_text(example())
    return made


@pytest.fixture(scope="module")
def done(folder: Path) -> run.Finished:
    """Evaluate plants, programs that fail and the page's example on three samples."""
    addresses, payloads = learned()

    def cheater(path: str) -> Iterator[Row]:
        for ends, _, _ in flows(path):
            apps = {addresses.get(ends["src_ip"]), addresses.get(ends["dst_ip"])} - {None}
            yield {
                **ends,
                "app": min(apps, default=""),
                "verdict": "certain" if apps else "not-call",
            }

    def oracle(path: str) -> list[Row]:
        rows = []
        for ends, starts, _ in flows(path):
            apps = {payloads[start] for start in starts if start in payloads}
            rows.append(
                {**ends, "app": min(apps, default=""), "verdict": "certain" if apps else "not-call"}
            )
        return rows

    def scripts(name: str) -> str:
        return f"{PYTHON} -I {folder / name}.py {{capture}}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "cache_folder", lambda: folder / "kept")
        patch.setenv("MIDCALL_SECRET", "sample-viber-audio")
        options = run.Options(
            runs=folder / "runs",
            peers="none",
            flows=0,
            classifiers=(
                classifier("cheater", cheater),
                classifier("oracle", oracle),
                f"nonsense={PYTHON} -I -c \"print('call me')\" {{capture}}",
                given.command(
                    f"hangs={PYTHON} -I -c 'import time; time.sleep(99)' {{capture}}", 0.3
                ),
                *(scripts(name) for name in ("nosy", "wrong", "exits", "mine")),
            ),
            seconds=30,
        )
        return run.evaluate(str(folder / "small.toml"), options)


@pytest.fixture(scope="module")
def lines(done: run.Finished) -> dict[tuple[str, str], Row]:
    """Return (engine, column) -> line."""
    rows = schema.read_table(done.folder, "evaluation")
    return {(row["engine"], row["column"]): row for row in rows}


#: The columns of which classifiers are asked.
ASKED = [column.name for column in COLUMNS if column.packets]
SCORE = ("n", "right", "other_call", "unsure", "missed", "call_tp", "false_calls", "bytes_right",
         "calls_right", "macro_f1")  # fmt: skip


def test_a_cheater_by_address_is_perfect_and_falls_to_silence_where_addresses_are_replaced(
    lines: dict[tuple[str, str], Row],
) -> None:
    for column in set(ASKED) - {"addresses"}:
        line = lines["cheater", column]
        assert (line["right"], line["call_tp"], line["false_calls"]) == (line["n"], line["n"], 0)
        assert line["n"] > 0
    assert lines["cheater", "original"]["macro_f1"] == 1.0
    said, silent = lines["cheater", "addresses"], lines["null", "addresses"]
    assert [said[name] for name in SCORE] == [silent[name] for name in SCORE]
    assert said["right"] == 0 < said["n"]


def test_an_oracle_by_payload_keeps_its_score_until_payloads_are_random(
    lines: dict[tuple[str, str], Row],
) -> None:
    for column in set(ASKED) - {"payloadless"}:
        line = lines["oracle", column]
        assert (line["right"], line["false_calls"]) == (line["n"], 0), column
    assert lines["oracle", "payloadless"]["right"] == 0


def test_classifiers_are_in_every_table_of_every_disturbance_with_different_packets(
    done: run.Finished, lines: dict[tuple[str, str], Row]
) -> None:
    names = ("cheater", "oracle", "nonsense", "hangs", "nosy", "wrong", "exits", "mine")
    for name in names:
        assert [column for engine, column in lines if engine == name] == ASKED
    for table in ("evaluation_apps", "evaluation_innocent"):
        rows = schema.read_table(done.folder, table)
        assert {(row["engine"], row["column"]) for row in rows} >= {
            (name, column)
            for name in ("cheater", "wrong")
            for column in ASKED
            if column != "midflow"
        }


def test_a_program_that_fails_is_reported_and_does_not_stop_the_run(
    done: run.Finished, lines: dict[tuple[str, str], Row]
) -> None:
    result = {one["name"]: one for one in done.summary["evaluation"]["peers"]}
    files = len(NAMES) * len(ASKED)
    starts = {
        "nonsense": "line 1: the header has no column proto",
        "hangs": "took more than 0.3 s; its stderr is empty",
        "wrong": "line 2: unknown app 'skipe' (did you mean skype?)",
        "exits": "ended with code 1; its stderr: no licence",
    }
    for name, words in starts.items():
        failures = result[name]["failures"]
        assert len(failures) == files
        place, reason = failures[0].split(": ", 1)
        assert place.split(", ")[0] in NAMES
        assert place.split(", ")[1] == "original"
        assert reason.startswith(words)
        for column in ASKED:
            line, silent = lines[name, column], lines["null", column]
            assert [line[key] for key in SCORE] == [silent[key] for key in SCORE]
    assert [result[name]["failures"] for name in ("cheater", "oracle", "nosy", "mine")] == [[]] * 4
    log = (done.folder / "run.log").read_text()
    assert log.count("classifier exits: ") == run.LOGGED + 1
    assert f"classifier exits: {files - run.LOGGED} more errors are in summary.json" in log
    printed = run.given_lines(done.summary["evaluation"])
    assert any(line.startswith(f"exits: errors in {files} files; the first: ") for line in printed)


def test_a_program_sees_no_name_and_no_truth(done: run.Finished, folder: Path) -> None:
    result = [json.loads(path.read_text()) for path in (folder / "calls").iterdir()]
    assert len(result) > len(ASKED)
    secrets = [word for item in items() for word in (
        item.capture.name, item.capture.sha256, Path(item.capture.file).stem)]  # fmt: skip
    for one in result:
        assert Path(one["argv"][1]).name == given.FILE
        assert len(one["argv"]) == 2
        assert one["comparison"] == [given.FILE]
        assert not any(name.startswith("MIDCALL_") for name in one["environment"])
        one["environment"].pop("PYTEST_CURRENT_TEST", None)  # it holds the name of a test
        outside = json.dumps([one["argv"], one["environment"]])
        assert not any(word in outside for word in (*secrets, *ASKED[1:]) if len(word) > 6)
        assert not any(word.encode() in bytes.fromhex(one["file"]) for word in secrets)
        assert not Path(one["argv"][1]).exists()


def test_the_example_of_the_page_works_as_it_is_printed(
    folder: Path, lines: dict[tuple[str, str], Row]
) -> None:
    assert len(example().strip().splitlines()) <= 24
    done = subprocess.run(
        [PYTHON, folder / "mine.py", SAMPLES / "sample-skype-audio.pcapng"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == HEADER
    line = lines["mine", "original"]
    assert 0 < line["right"] < line["n"]
    assert lines["mine", "addresses"]["right"] == line["right"]


def test_the_page_has_each_classifier_in_its_tables_and_its_picture(
    done: run.Finished, tmp_path: Path
) -> None:
    assert "The same synthetic captures, by cheater" in done.page.read_text()
    for name in schema.EVALUATED:
        rows = schema.read_table(done.folder, name)
        real = [{**one, "synthetic": False} if "synthetic" in one else one for one in rows]
        schema.write_table(tmp_path, name, real)
    for name in ("summary.json", "spec.toml", "provenance.json"):
        (tmp_path / name).write_bytes((done.folder / name).read_bytes())
    summary = json.loads((tmp_path / "summary.json").read_text())
    innocents = schema.read_table(tmp_path, "evaluation_innocent")
    summary["evaluation"]["innocents"] = [one for one in innocents if one["engine"] == run.OURS][:2]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = evaluation.render(tmp_path).read_text()
    for words in (
        "mine, disturbance by disturbance",
        "Named right by cheater, by app, role and disturbance",
        "Innocent flows called a call, by engine, as captured",
        "Flows named right of n, by engine",
        "exits is your classifier",
        "its stderr: no licence",
    ):
        assert words in page
    real: Any = schema.read_table(tmp_path, "evaluation")
    assert evaluation.drawn(real, ["cheater", "oracle"])[:3] == ["midcall", "cheater", "oracle"]
    rows = evaluation.view(tmp_path)["comparison"]
    assert isinstance(rows, list)
    assert {"Midcall", "cheater", "oracle", "mine"} <= {row["name"] for row in rows}


def test_the_command_line_passes_classifiers_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[run.Options] = []

    def stop(name: str, options: run.Options) -> run.Finished:
        seen.append(options)
        raise ExperimentError("enough")

    monkeypatch.setattr(run, "evaluate", stop)
    words = ["evaluate", "--classifier", "a=x {capture}", "--classifier", "b=y {capture}"]
    CliRunner().invoke(app, [*words, "--classifier-seconds", "5"])
    CliRunner().invoke(app, ["evaluate"])
    assert [(list(one.classifiers), one.seconds) for one in seen] == [
        (["a=x {capture}", "b=y {capture}"], 5.0), ([], given.TIMEOUT),
    ]  # fmt: skip


def test_the_function_of_the_page_is_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[run.Options] = []
    monkeypatch.setattr(run, "evaluate", lambda name, options: seen.append(options))
    block = re.findall(r"^```python\n(from midcall.*?)^```", HOWTO.read_text(), re.M | re.S)[0]
    exec(compile(block, str(HOWTO), "exec"), {})
    one: Any = seen[0].classifiers[0]
    assert one.name == "mine"
    assert given_rows.of_dicts(one.rows_of("x"))[1] == ""
