# SPDX-License-Identifier: BSD-3-Clause
"""The command line as a user types it: exit codes, one sentence per error, no traceback."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from midcall.captures.packets.pcap import packets_of
from midcall.captures.packets.writer import write_pcap
from midcall.experiments.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
DNS = ROOT / "captures" / "samples" / "sample-dns.pcap"


@pytest.fixture(autouse=True)
def _own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's added captures out of the tests, and the tests out of them."""
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))


def midcall(*words: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def process(*words: object, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "midcall.experiments.cli.app", *map(str, words)]
    return subprocess.run(
        command,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_help_names_every_command() -> None:
    result = midcall("--help")
    assert result.exit_code == 0
    for name in ("run", "evaluate", "classify", "explain", "captures", "doctor", "report"):
        assert f"\n  {name} " in result.stdout


def test_help_loads_neither_numba_nor_arrow() -> None:
    code = (
        "import sys, midcall.experiments.cli.app as c\n"
        "try: c.app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numba', 'pyarrow', 'numpy', 'pydantic', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_one_line() -> None:
    result = midcall("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("midcall ")


@pytest.mark.parametrize(
    ("words", "close"),
    [
        (("classfy",), "Did you mean 'classify'?"),
        (("captures", "lst"), "Did you mean 'list'?"),
        (("classify", "--formt", "csv", "x"), "--format"),
        (("run", "smoek"), "did you mean smoke?"),
        (("run", "morocco"), "did you mean morocco-2016?"),
        (("classify", DNS, "--format", "jsn"), "did you mean json?"),
        (("captures", "show", "sample-dn"), "did you mean sample-dns, "),
    ],
)
def test_a_mistyped_word_is_answered_with_the_closest_one(
    words: tuple[object, ...], close: str
) -> None:
    result = midcall(*words)
    assert result.exit_code == 2
    assert close in result.stderr
    assert "Traceback" not in result.output


def bad_files(folder: Path) -> dict[str, Path]:
    """Return one file (or folder) of each kind that cannot be classified."""
    (folder / "empty.pcap").write_bytes(b"")
    (folder / "text.pcap").write_text("this is no capture")
    (folder / "bare").mkdir()
    write_pcap(folder / "odd.pcap", packets_of([b"\0" * 60], [1], link=147))
    names = ("empty.pcap", "text.pcap", "bare", "odd.pcap", "missing.pcap")
    return {name: folder / name for name in names}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("empty.pcap", "the file is empty"),
        ("text.pcap", "not a capture"),
        ("bare", "the folder holds no captures"),
        ("odd.pcap", "unknown link type 147"),
        ("missing.pcap", "no such file"),
    ],
)
def test_a_bad_file_is_one_sentence_and_exit_code_2(
    tmp_path: Path, name: str, sentence: str
) -> None:
    path = bad_files(tmp_path)[name]
    result = midcall("classify", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"midcall: {path}: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_batch_with_bad_files_gives_the_good_ones_and_exit_code_2(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    bad = list(bad_files(tmp_path).values())
    result = midcall("classify", *bad[:2], DNS, *bad[2:], "-o", out)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == len(bad)
    files = {line.split(",")[0].strip('"') for line in out.read_text().splitlines()[1:]}
    assert files == {str(DNS)}


def test_a_cut_file_is_a_warning_and_a_capture_of_no_packets_a_notice(tmp_path: Path) -> None:
    (tmp_path / "cut.pcap").write_bytes(DNS.read_bytes()[:-10])
    (tmp_path / "none.pcap").write_bytes(DNS.read_bytes()[:24])
    for name, words in (("cut.pcap", "the file is cut"), ("none.pcap", "holds 0 packets")):
        result = midcall("classify", tmp_path / name, "--format", "csv", "-o", tmp_path / "o.csv")
        assert result.exit_code == 0
        assert result.stderr.startswith("midcall: warning: ")
        assert words in result.stderr


def test_rows_come_on_the_standard_output_and_words_on_the_other(tmp_path: Path) -> None:
    done = process("classify", DNS, tmp_path / "missing.pcap", "--format", "csv", "-o", "-")
    assert done.returncode == 2
    assert done.stdout.startswith('"file","proto",')
    assert "missing" not in done.stdout
    assert done.stderr == f"midcall: {tmp_path / 'missing.pcap'}: no such file\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = process("classify", DNS, "--format", "csv", out=write)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_report_of_no_run_is_one_sentence(tmp_path: Path) -> None:
    result = midcall("report", tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"midcall: {tmp_path / 'nothing'}: no such run folder")


def test_a_capture_is_added_with_a_privacy_warning_listed_shown_and_removed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mycall.pcap"
    path.write_bytes((DNS.parent / "sample-viber-audio.pcap").read_bytes() + b"")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # another sha256 than the catalogued sample's
    path.write_bytes(raw)
    result = midcall("captures", "add", path, "--app", "viber", "--kind", "audio")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("privacy: The capture holds ")
    assert result.stdout.startswith("added mycall: viber audio, ")
    assert "mycall" in midcall("captures", "list").stdout
    assert "path" in midcall("captures", "show", "mycall").stdout
    assert midcall("captures", "add", path, "--app", "viber").exit_code == 2
    assert midcall("captures", "remove", "mycall").stdout == "removed mycall\n"
    assert "mycall" not in midcall("captures", "list").stdout


def test_every_problem_of_an_addition_is_told(tmp_path: Path) -> None:
    result = midcall("captures", "add", DNS, "--app", "whatsap", "--kind", "audo")
    assert result.exit_code == 2
    assert "did you mean whatsapp?" in result.stderr
    assert "did you mean audio?" in result.stderr


def test_the_committed_catalogue_has_no_problem() -> None:
    result = midcall("captures", "check")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("captures, no problem found\n")


def test_the_doctor_has_one_line_for_each_thing_and_knows_the_peers() -> None:
    result = midcall("doctor")
    assert result.exit_code in (0, 1)
    lines = result.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "missing", "absent") for line in lines)
    peers = ("ndpi", "nfstream", "tshark")
    for name in (
        "Python",
        "numba",
        *peers,
        "apt source",
        "live",
        "live offload",
        "docker",
        "cells",
        "downloads",
    ):
        assert any(line[8:].startswith(name) for line in lines)


def test_an_anonymised_copy_has_other_addresses_and_the_same_verdicts(tmp_path: Path) -> None:
    call, copy = DNS.with_name("sample-whatsapp-audio.pcap"), tmp_path / "copy.pcap"
    done = midcall("captures", "anonymise", call, copy)
    assert (done.exit_code, done.stdout.split(": ")[0]) == (0, str(copy))
    before, after = (
        list(csv.DictReader(midcall("classify", path, "--format", "csv").stdout.splitlines()))
        for path in (call, copy)
    )
    assert len(before) == len(after) > 2
    for one, two in zip(before, after, strict=True):
        for name in ("verdict", "app", "role", "packets"):
            assert one[name] == two[name]
        assert one["src_ip"] != two["src_ip"]
    again = midcall("captures", "anonymise", call, copy)
    assert (again.exit_code, again.stderr) == (
        2, f"midcall: {copy}: exists already; give another name\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "{}"),
        ("explain", "{}"),
        ("quality", "{}"),
        ("replay", "{}", "--policy", "none"),
        ("localise", "{}", "--policy", "maroc-telecom/stun", "--budget", "1"),
        ("probe", "--against", "none", "--capture", "{}", "--budget", "1"),
        ("captures", "anonymise", "{}", "out.pcap"),
        ("captures", "show", "{}"),
    ],
)
@pytest.mark.parametrize("capture", ["sample-sip-audio", "inner/copy.pcap"])
def test_every_command_that_takes_a_capture_takes_a_name_and_a_path_in_the_corpus(
    words: tuple[str, ...], capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    copy = tmp_path / "corpus" / "inner" / "copy.pcap"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(DNS.with_name("sample-sip-audio.pcap").read_bytes())
    command = [word.format(capture) for word in words]
    assert midcall(*command, "--corpus", "corpus").exit_code == 0
    lost = midcall(
        *[word.format("inner/sample-sip-audi.pcap") for word in words], "--corpus", "corpus"
    )
    assert lost.exit_code == 2
    assert "did you mean sample-sip-audio" in lost.stderr


def test_noise_of_a_line_does_not_go_with_a_live_probe() -> None:
    done = midcall("probe", "--live", "--against", "none", "--capture", DNS, "--noise", "loss=0.1")
    assert done.exit_code == 2
    assert "leave out --live" in done.stderr


def test_fingerprints_are_listed_of_a_capture_by_its_name() -> None:
    sample = "sample-facetime-push"
    by_path = midcall("policy", "hellos", DNS.with_name(f"{sample}.pcap"))
    by_name = midcall("policy", "hellos", sample)
    assert by_name.exit_code == 0
    assert by_name.stdout == by_path.stdout != ""
