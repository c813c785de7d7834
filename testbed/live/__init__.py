# SPDX-License-Identifier: BSD-3-Clause
"""The live backend: the emulated network as a real one, in network namespaces of this machine.

Imports replay and the rooms below it. Needs root and Linux.
"""
