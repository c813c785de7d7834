# SPDX-License-Identifier: BSD-3-Clause
"""Coverage-guided fuzzing of every reader in plain Python, and the cases that it starts from."""
