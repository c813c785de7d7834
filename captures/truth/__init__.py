# SPDX-License-Identifier: BSD-3-Clause
"""What is known of a capture: catalogue, per-flow labels, calls, and their files.

Imports packets.
"""
