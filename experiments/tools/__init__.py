# SPDX-License-Identifier: BSD-3-Clause
"""Commands on one capture or one policy: explain, replay, dataset.

Imports cells and the rooms below it.
"""
