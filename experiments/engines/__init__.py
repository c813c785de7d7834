# SPDX-License-Identifier: BSD-3-Clause
"""Policies under real engines: the same packets through an engine and through the lab's box.

Imports localise and the rooms below it.
"""
