# SPDX-License-Identifier: BSD-3-Clause
"""One checked, linear reader per protocol.

Imports state.
"""
