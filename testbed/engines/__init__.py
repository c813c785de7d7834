# SPDX-License-Identifier: BSD-3-Clause
"""Real packet engines under the lab's policies: Suricata, nftables, iptables, nDPI.

A policy is translated into an engine's own configuration, or refused with the reason, and the
engine decides the packets of a capture: in its offline mode, or in a network namespace of the lab.
Imports live and the rooms below it.
"""
