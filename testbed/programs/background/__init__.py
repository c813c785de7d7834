# SPDX-License-Identifier: BSD-3-Clause
"""Background traffic: real programs that make the innocent traffic of the same minutes as calls.

Imports programs and live.
"""
