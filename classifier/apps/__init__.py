# SPDX-License-Identifier: BSD-3-Clause
"""The fingerprints of one application per file: facts with their source, and one function.

Imports state and protocols.
"""
