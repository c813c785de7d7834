# SPDX-License-Identifier: BSD-3-Clause
"""Proofs: commands that try to break a promise of the lab and write down how that went.

`make determinism`, `make instructions`, `make hostile`, `make faults`, `make mutants`,
`make supply`. Each writes its result to runs/reliability/NAME.json and ends with 1 where a promise
was broken. docs/explanation/reliability.md says what each one promises.
"""
