# SPDX-License-Identifier: BSD-3-Clause
"""What commands print of one capture or one policy: explain, replay, dataset.

Imports cells and the rooms below it.
"""
