# SPDX-License-Identifier: BSD-3-Clause
"""The ground truth of captures: catalogue, per-flow labels, calls, and their files.

Imports packets.
"""
