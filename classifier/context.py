# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints learned from set-up, so that later flows get their app's name: bounded and ageing."""

from __future__ import annotations

import numpy as np

CONTEXT = np.dtype([("key", "i8"), ("time", "i8"), ("app", "u1"), ("source", "u1"), ("pad", "u2")])
LEARN_ALL = 0xFF
