# SPDX-License-Identifier: BSD-3-Clause
"""Quality of a call per second, from sizes and times of its packets alone.

Imports state.
"""
