# SPDX-License-Identifier: BSD-3-Clause
"""The policy language: its model, its syntax and its files.

Imports network.
"""
