# SPDX-License-Identifier: BSD-3-Clause
"""The policy language: its model, its files, and the checks of both.

Imports no other room of the testbed.
"""
