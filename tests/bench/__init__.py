# SPDX-License-Identifier: BSD-3-Clause
"""Bench: packets per second of the offline path, beside its peers and the limits.

`python -m tests.bench` (`make bench`) makes its files of the captures that this machine has,
measures them pinned to one core, every tool in turn, several times, and writes bench.json.

What is measured, exactly. midcall: a process that has compiled and run the path once (start-up is
excluded; `--start-up` states that of the command) reads the file from the page cache in batches,
feeds a fresh engine and makes its table of flows. two_cores: the same by two threads
(classifier.parallel); its ratio says how many times faster than midcall on one core. two_passes:
two processes at once, each with a core and a pass over the file of its own, their packets together:
what two cores of this machine give at most where nothing is shared but memory. Peers: the wall
time of the program on the file, less that of a capture of one packet (its start-up). Slow peers get
the first part of the file; `packets` says how much. Bytes are those in the file, without record
headers.
read: the file through one buffer, which no tool can beat. Figures are medians over the repeats,
with the least and the greatest beside them. Peak memory is the process's maximum resident set,
interpreter and libraries included. State per flow: midcall's arrays by the flows in them; a peer's
peak less that of its start-up run, by as many flows.
"""
