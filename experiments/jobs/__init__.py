# SPDX-License-Identifier: BSD-3-Clause
"""Work on several processes or hosts, and its progress.

Imports results.
"""
