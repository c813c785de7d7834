# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: accuracy on disturbed captures, compared with baselines, peers, your classifier.

`classifier(name, function)` makes a classifier of a Python function, for `run.Options`.

Imports report, cells and the rooms below them.
"""

from midcall.experiments.accuracy.peers.given import classifier

__all__ = ["classifier"]
