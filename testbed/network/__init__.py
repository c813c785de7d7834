# SPDX-License-Identifier: BSD-3-Clause
"""The emulated line: presets, queue, rate, loss, delay; IP packets and checksums.

Imports no other room of the testbed.
"""
