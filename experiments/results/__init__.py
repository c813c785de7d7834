# SPDX-License-Identifier: BSD-3-Clause
"""The tables of a run: their schema, folders, provenance and reader.

Imports no other room of experiments.
"""
