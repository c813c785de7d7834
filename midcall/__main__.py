# SPDX-License-Identifier: BSD-3-Clause
"""`python -m midcall` is the command `midcall`."""

from __future__ import annotations

from midcall.experiments.cli.app import main

if __name__ == "__main__":
    main()
