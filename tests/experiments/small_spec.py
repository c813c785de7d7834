# SPDX-License-Identifier: BSD-3-Clause
"""A spec of one operator, one access network and one date over some samples."""

from __future__ import annotations

import json

SPEC = """
schema = 1
name = "small"
title = "Small"
question = "What?"
seed = 7
operators = ["maroc-telecom"]
access = ["4g"]
apps = ["whatsapp"]
[[dates]]
date = 2016-01-20
label = "during"
[captures]
real = false
added = false
names = %s
"""


def small_spec(*captures: str) -> str:
    """Return the spec as TOML; captures: names of samples."""
    return SPEC % json.dumps(captures)
