# SPDX-License-Identifier: BSD-3-Clause
"""What a shell offers for arguments that were begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midcall.experiments.cli import completion
from midcall.experiments.results.runs import MARK

HERE = Path(__file__).resolve().parents[2]


def test_specs_and_operators_come_with_their_titles() -> None:
    assert ("smoke", "Smoke test on synthetic samples") in completion.specs("smo")
    assert dict(completion.operators("maroc")).keys() == {"maroc-telecom"}
    assert completion.specs("no such") == []


def test_behind_a_slash_come_hypotheses() -> None:
    assert completion.policies("maroc-t") == [("maroc-telecom/", dict(completion.operators("maroc"))
                                               ["maroc-telecom"])]  # fmt: skip
    assert "maroc-telecom/stun" in dict(completion.policies("maroc-telecom/st"))
    assert completion.policies("nobody/") == []


def test_runs_are_those_of_the_folder_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completion.runs("") == []
    for name in ("20260101-a", "20260102-b", "no-run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("20260101-a", "20260102-b"):
        (tmp_path / "runs" / name / MARK).write_text("{}")
    assert [name for name, _ in completion.runs("")] == ["latest", "20260102-b", "20260101-a"]
    assert [name for name, _ in completion.run_folders("runs/2026")] == [
        "runs/20260102-b", "runs/20260101-a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("midcall run mor", "morocco-2016"),
        ("midcall localise loc", "localise"),
        ("midcall localise sample-sip", "sample-sip-audio"),
        ("midcall policy hellos sample-sip", "sample-sip-audio"),
        ("midcall policy show ira", "iran-2022"),
        ("midcall captures show sample-sip", "sample-sip-audio"),
        ("midcall localise x.pcap --policy maroc-telecom/sni", "maroc-telecom/sni-drop"),
    ],
)
def test_the_shell_is_offered_words(typed: str, offered: str) -> None:
    words = typed.split()
    done = subprocess.run(
        [sys.executable, "-c", "from midcall.experiments.cli.app import main; main()"],
        env=os.environ | {
            "_MIDCALL_COMPLETE": "complete_bash", "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1), "PYTHONPATH": str(HERE),
        },
        capture_output=True, text=True, check=True, timeout=120, cwd=HERE,
    )  # fmt: skip
    assert offered in done.stdout.split()
