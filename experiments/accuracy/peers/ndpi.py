# SPDX-License-Identifier: BSD-3-Clause
"""nDPI's `ndpiReader`, one process per capture: a labelled CSV row per flow."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.peers.labels import Answer

#: Time limit for one capture, seconds.
TIMEOUT = 60.0
COLUMNS = {"protocol", "src_ip", "src_port", "dst_ip", "dst_port", "ndpi_proto"}


class Reader(NamedTuple):
    """An installed ndpiReader. It removes GTP tunnels (-t), as Midcall does."""

    version: str
    program: str
    name: str = "ndpi"
    how: str = "-q -t -C"

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, ""), or ({}, the reason of a failure)."""
        out = Path(f"{capture}.ndpi.csv")
        command = [self.program, "-i", capture, "-q", "-t", "-C", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT)
            text = out.read_text(encoding="utf-8", errors="replace") if out.is_file() else None
        except subprocess.TimeoutExpired:
            return {}, f"took more than {TIMEOUT:.0f} s"
        except OSError as error:
            return {}, str(error)
        finally:
            out.unlink(missing_ok=True)
        if done.returncode or text is None:
            return {}, f"ended with code {done.returncode} and no output"
        return parse(text.splitlines())

    def close(self) -> None:
        """Do nothing: no process is running."""


def find(program: str = "ndpiReader") -> tuple[Reader | None, str]:
    """Return (reader, ""), or (None, the reason why it cannot be used)."""
    path = shutil.which(program)
    if path is None:
        return None, f"{program} is not installed (Debian: apt install libndpi-bin)"
    try:
        done = subprocess.run([path, "-h"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{program} does not run: {error}"
    match = re.search(r"nDPI (\d[\w.-]*)", done.stdout + done.stderr)
    if match is None:
        return None, f"{program} -h prints no version of nDPI"
    return Reader(match.group(1), path), ""


def parse(lines: Iterable[str]) -> tuple[Answer, str]:
    """Return (flow -> labels, "") of ndpiReader's CSV, or ({}, reason) if a column is missing."""
    reader = csv.DictReader(lines)
    names = [name.lstrip("#") for name in reader.fieldnames or ()]
    missing = COLUMNS - set(names)
    if missing:
        return {}, f"its CSV has no column {', '.join(sorted(missing))}"
    reader.fieldnames = names
    answer: Answer = {}
    for row in reader:
        try:
            ports = int(row["src_port"]), int(row["dst_port"])
            flow = key(int(row["protocol"]), row["src_ip"], ports[0], row["dst_ip"], ports[1])
        except (TypeError, ValueError):  # a line that is no flow
            continue
        answer[flow] = (*answer.get(flow, ()), row["ndpi_proto"] or "")
    return answer, ""
