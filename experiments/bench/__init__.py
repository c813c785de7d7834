# SPDX-License-Identifier: BSD-3-Clause
"""The live bench: rates, latencies and exactness of the live box, and its goals.

Imports testbed.live, measure and results.
"""
