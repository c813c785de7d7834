# SPDX-License-Identifier: BSD-3-Clause
"""Makes `tests` importable, so that tests of the classifier share one way to put packets on a wire.

Under pytest's importlib mode nothing does that for a bare `pytest` (`python -m pytest` would).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
