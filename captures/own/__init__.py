# SPDX-License-Identifier: BSD-3-Clause
"""A user's own captures: adding one, its privacy, prefix-preserving anonymisation.

Imports fetch, truth and packets.
"""
