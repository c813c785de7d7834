# SPDX-License-Identifier: BSD-3-Clause
"""What is replayed, and its truth: captures, their catalogue, labels and calls."""
