# SPDX-License-Identifier: BSD-3-Clause
"""What is remembered of a flow while it is inspected; freed when the flow is settled."""

from __future__ import annotations

import numpy as np

NOTE = np.dtype([("flow", "i8"), ("next", "i8")])
