# SPDX-License-Identifier: BSD-3-Clause
"""Flows handed over to the kernel (XDP) once their fate is settled.

Imports live.box.
"""
