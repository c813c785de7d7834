# SPDX-License-Identifier: BSD-3-Clause
"""Real programs as processes: calls, background traffic and the recorder.

Imports live, assess and the rooms below them.
"""
