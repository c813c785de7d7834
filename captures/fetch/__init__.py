# SPDX-License-Identifier: BSD-3-Clause
"""How catalogued captures are obtained: from a folder, an archive, Debian or Git.

Imports truth.
"""
