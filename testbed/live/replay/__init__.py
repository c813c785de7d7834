# SPDX-License-Identifier: BSD-3-Clause
"""A capture replayed through a live box, and the proof of each packet's fate.

Imports the other rooms of live.
"""
