# SPDX-License-Identifier: BSD-3-Clause
"""The emulated line: access presets, queue, rate, loss, delay, and Internet checksums.

Imports policy.
"""
