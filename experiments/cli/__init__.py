# SPDX-License-Identifier: BSD-3-Clause
"""The commands of `midcall`, one file per group: arguments, options and output.

Imports every other room.
"""
