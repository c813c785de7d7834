# SPDX-License-Identifier: BSD-3-Clause
"""One cell of a run: a capture, offline, in virtual time or live, and its rows.

Imports measure, spec, jobs and results.
"""
