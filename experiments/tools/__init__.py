# SPDX-License-Identifier: BSD-3-Clause
"""What commands print of one capture or one policy: classify, explain, replay, dataset.

Imports run and the rooms below it.
"""
