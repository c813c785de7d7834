# SPDX-License-Identifier: BSD-3-Clause
"""Other boxes and loads: third-party programs, NFQUEUE, load generator.

Imports live.network and live.box.
"""
