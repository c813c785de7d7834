# SPDX-License-Identifier: BSD-3-Clause
"""Progress is a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from midcall.experiments.jobs.progress import Fetching, Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Tell so."""
        return True


def test_elsewhere_progress_is_one_line_at_the_end_and_a_line_each_in_the_log() -> None:
    out, log = io.StringIO(), list[str]()
    with Progress("cells", 2, stream=out, log=log.append) as bar:
        bar.step("one")
        bar.step("two")
    assert out.getvalue() == "cells: 2 of 2 done\n"
    assert log == ["cells: 1/2 one", "cells: 2/2 two"]


def test_a_job_of_nothing_says_nothing() -> None:
    out = Terminal()
    with Progress("cells", 0, stream=out):
        pass
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end() -> None:
    out = Terminal()
    with Progress("cells", 1, stream=out) as bar:
        bar.step("one")
    assert "\x1b" in out.getvalue()
    assert "1 of 1 done" not in out.getvalue()


def test_a_job_that_broke_is_not_told_as_done() -> None:
    out = io.StringIO()
    with pytest.raises(RuntimeError), Progress("cells", 2, stream=out):
        raise RuntimeError
    assert out.getvalue() == ""


def test_a_download_rewrites_one_line_on_a_terminal() -> None:
    out = Terminal()
    fetching = Fetching(out)
    fetching._told = -1e9
    fetching("ndpi", 1_500_000, 3_000_000)
    fetching("ndpi", 1_600_000, 3_000_000)
    fetching.close()
    assert out.getvalue() == "\r\x1b[Kfetching ndpi: 1.5 of 3.0 MB\r\x1b[K"
