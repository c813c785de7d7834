# SPDX-License-Identifier: BSD-3-Clause
"""The operator's middlebox: a policy compiled into tables, and the decision on each packet.

Imports policy and network.
"""
