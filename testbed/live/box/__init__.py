# SPDX-License-Identifier: BSD-3-Clause
"""The middlebox as a process: rings of packets, the pump between them, kernel settings.

Imports live.network.
"""
