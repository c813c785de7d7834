# SPDX-License-Identifier: BSD-3-Clause
"""Namespaces, links, taps and subscriber lines on this machine.

Imports nothing of the other rooms of live.
"""
