# SPDX-License-Identifier: BSD-3-Clause
"""The documentation as a small site: `make docs`, then open docs/_build/html/index.html."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from midcall.experiments.cli import command_reference  # noqa: E402

# Written at every build, so it is what the command line says of itself.
(HERE / "reference" / "cli.md").write_text(command_reference.page(), encoding="utf-8")

project = "Midcall"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# A page may stand alone: it is found by search, and by links.
suppress_warnings = ["toc.not_included"]
html_theme = "furo"
html_title = "Midcall"
html_copy_source = False
html_show_sphinx = False
