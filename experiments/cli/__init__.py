# SPDX-License-Identifier: BSD-3-Clause
"""The commands of `midcall`, a file per group: arguments, and the few lines around the work.

Imports every other room.
"""
