# SPDX-License-Identifier: BSD-3-Clause
"""The access networks, once for policies, specs, commands and reports."""

from __future__ import annotations

from typing import Literal, get_args

Access = Literal["3g", "4g", "adsl", "fibre", "wifi"]
ACCESS: tuple[Access, ...] = get_args(Access)

#: Of a capture the access network may be unknown.
CapturedAccess = Literal["3g", "4g", "adsl", "fibre", "wifi", "unknown"]
CAPTURED_ACCESS: tuple[CapturedAccess, ...] = get_args(CapturedAccess)
#: The names as help texts list them.
ACCESS_WORDS = ", ".join(ACCESS)
