# SPDX-License-Identifier: BSD-3-Clause
"""Obtain catalogued captures from a folder, an archive, Debian or Git.

Imports truth.
"""
