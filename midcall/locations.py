# SPDX-License-Identifier: BSD-3-Clause
"""Where the lab's own files stand: the four folders, and the checkout around them.

In a checkout `midcall/` holds four symbolic links to the folders of the top level. In an installed
package the folders themselves stand there. Code that reads a data file begins at one of these.
"""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).resolve().parent
#: The checkout, or the folder into which the package was installed.
ROOT = HOME.parent
CAPTURES, CLASSIFIER, TESTBED, EXPERIMENTS = (
    (HOME / name).resolve() for name in ("captures", "classifier", "testbed", "experiments")
)
OPERATORS = TESTBED / "operators"
TEMPLATES = EXPERIMENTS / "templates"
