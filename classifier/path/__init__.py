# SPDX-License-Identifier: BSD-3-Clause
"""The path of one packet: decode, dispatch by transport, evidence, verdict.

Imports apps, protocols, statistical and state.
"""
