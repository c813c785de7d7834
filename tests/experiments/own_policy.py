# SPDX-License-Identifier: BSD-3-Clause
"""A policy file of one rule, for commands that take --policy."""

from __future__ import annotations

from pathlib import Path

FILE = """
id = "own"
title = "A box of one rule"
country = "ZZ"

[[period]]
access = ["4g"]
from = 2000-01-01
grade = "D"
source = "a test"

[[hypothesis]]
id = "one"
title = "One rule"
description = "A test."

[[hypothesis.rule]]
name = "one"
grade = "D"
source = "a test"
hypothesis = true
%s
"""


def own_policy(folder: Path, rule: str) -> str:
    """Write the file and return the policy's name; rule: the other keys of its rule, as TOML."""
    path = folder / "own.toml"
    path.write_text(FILE % rule)
    return f"{path}/one"
