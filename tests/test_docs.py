# SPDX-License-Identifier: BSD-3-Clause
"""Commands in the README and the docs: each one parses, and the tutorial's run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from midcall.experiments.cli import command_reference
from midcall.experiments.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"]
#: Pages that people write; reference/cli.md is made of the commands.
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS])
SAMPLE = ROOT / "captures" / "samples" / "sample-whatsapp-audio.pcap"
#: Commands of the tutorial that take long or need a run; the others are carried out.
ONLY_PARSED = ("run", "compare")


def blocks(page: Path) -> str:
    """Return the shell blocks of a page, lines that go on joined."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return "\n".join(found).replace("\\\n", " ")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every midcall command of a page."""
    for line in blocks(page).split("\n"):
        if "midcall " not in line:
            continue
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command = [word for word in words[:end] if word != "sudo"]
            if command and command[0].removeprefix(".venv/bin/") == "midcall":
                yield command[1:]
            words = words[end + 1 :]


def understood(words: list[str]) -> None:
    """Raise what the command line would say of words that it does not understand."""
    group: Any = typer.main.get_command(app)
    context = None
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        context = group.make_context("midcall", [words[0]], parent=context)
        group, words = group.commands[words[0]], words[1:]
    if not hasattr(group, "commands"):
        group.make_context("midcall", list(words), parent=context)


EVERY = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), EVERY,
    ids=[f"{page.relative_to(ROOT)}: {' '.join(words)}" for page, words in EVERY],
)  # fmt: skip
def test_a_command_that_is_written_down_is_understood(page: Path, words: list[str]) -> None:
    understood(words)


def test_there_are_commands_and_a_wrong_one_would_be_seen() -> None:
    assert len(EVERY) > 15
    with pytest.raises(Exception, match=r"(?i)no such option"):
        understood(["runs", "list", "--no-such-thing"])


def test_the_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    sample = SAMPLE.read_bytes()

    # A sample that ships is refused as a duplicate: another last octet makes it another.
    (tmp_path / "mycall.pcap").write_bytes(sample[:-1] + bytes([sample[-1] ^ 1]))
    done = []
    for words in commands(ROOT / "docs" / "tutorial.md"):
        if words[0] in ONLY_PARSED:
            continue
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"
        done.append(words[0])
    assert {"classify", "explain", "captures", "new", "runs"} <= set(done)


def test_the_reference_has_every_command_with_its_options() -> None:
    text = command_reference.page()
    names = [name for name, _ in command_reference.commands(typer.main.get_command(app))]
    assert len(names) > 20
    for name in names:
        assert f"## `midcall {name}`\n" in text
    assert "| `--reaction` | A CSV file of date, operator, likes, drawn in the report. |" in text


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            target = page.parent / link
            made = target == ROOT / "docs" / "reference" / "cli.md"
            assert made or target.exists(), f"{page.relative_to(ROOT)}: {link}"
