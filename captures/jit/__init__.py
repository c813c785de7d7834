# SPDX-License-Identifier: BSD-3-Clause
"""The compiler of the packet path: the one decorator, the linker of kernels, typed readers of
bytes.

Imports only Numba, NumPy and midcall.locations.
"""
