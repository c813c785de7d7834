# SPDX-License-Identifier: BSD-3-Clause
"""Mutants: changed copies of the code that decides figures, each of which a test should notice.

`python -m tests.proofs.mutants [MODULE ...]` (make mutants) lets cosmic-ray change one operator,
number, comparison or keyword at a time, in a copy of the sources, and runs the module's own tests
against it. A mutant that survives is told with its change, and is a problem unless `mutants.toml`
names the line with a reason why no test can tell it from the original. Rules are compiled code:
their mutants run as plain Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.provenance import ROOT
from tests.proofs.ledger import settle

ACCEPTED = Path(__file__).with_suffix(".toml")
POLICY_TESTS = (
    "tests/testbed/test_policy.py", "tests/testbed/test_lint.py", "tests/testbed/test_profiles.py",
)  # fmt: skip
#: Module -> the tests that must notice its mutants.
MODULES: dict[str, tuple[str, ...]] = {
    "experiments/statistics.py": (
        "tests/experiments/test_statistics.py", "tests/experiments/test_metrics.py",
    ),
    "experiments/significance.py": ("tests/experiments/test_significance.py",),
    "experiments/metrics.py": (
        "tests/experiments/test_metrics.py", "tests/experiments/test_by_protocol.py",
    ),
    "testbed/words.py": POLICY_TESTS,
    "testbed/language.py": POLICY_TESTS,
    "testbed/policy.py": POLICY_TESTS,
    "testbed/policy_files.py": POLICY_TESTS,
    "testbed/rules.py": ("tests/testbed/test_middlebox.py", "tests/testbed/test_policy.py"),
}  # fmt: skip
#: Operators that are left out: `|` of annotations, which nobody evaluates, and exotic replacements.
LEFT_OUT = (
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceBinaryOperator_.*_(Pow|Mod|LShift|RShift|BitOr|BitAnd|BitXor|FloorDiv)",
    "core/ReplaceUnaryOperator_.*_Invert",
    "core/ReplaceComparisonOperator_.*_(Is|IsNot)",
)
#: Modules whose kernels would be compiled anew for every mutant.
PLAIN = ("testbed/rules.py",)
FILTER = "cosmic_ray.tools.filters.operators_filter"
COPIED = ("captures", "classifier", "testbed", "experiments", "tests", "pyproject.toml")
#: Seconds that the tests of one mutant may take: a loop without an end is noticed.
PATIENCE = 120.0


class Mutant(NamedTuple):
    """A change: module, line, what cosmic-ray did to it, the outcome, and the difference."""

    module: str
    line: int
    operator: str
    outcome: str
    change: str

    @property
    def text(self) -> str:
        """Return the mutant as a sentence."""
        return f"{self.module}:{self.line}: {self.operator} survives\n{self.change}"


def copy(folder: Path) -> None:
    """Copy the sources, so that no mutant ever stands in the checkout."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def config(module: str) -> str:
    """Return cosmic-ray's configuration for a module."""
    tests = " ".join(MODULES[module])
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:randomly {tests}"
    return (
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {PATIENCE}\nexcluded-modules = []\n'
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {list(LEFT_OUT)}\n"
    )


def hunted(module: str, folder: Path) -> list[Mutant]:
    """Return every mutant of a module with its outcome."""
    stem = module.replace("/", "-").removesuffix(".py")
    (folder / f"{stem}.toml").write_text(config(module), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    if module in PLAIN:
        environment["NUMBA_DISABLE_JIT"] = "1"
    orders, session = f"{stem}.toml", f"{stem}.sqlite"
    asked(("cosmic_ray.cli", "baseline", orders), folder, environment)
    asked(("cosmic_ray.cli", "init", orders, session), folder, environment)
    asked((FILTER, session, orders), folder, environment)
    asked(("cosmic_ray.cli", "exec", orders, session), folder, environment)
    told = asked(("cosmic_ray.cli", "dump", session), folder, environment)
    return [one for one in read(module, told) if one.outcome != "skipped"]


def asked(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a module of cosmic-ray; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"mutants: cosmic-ray {words[0]}: {done.stdout[-600:]}{done.stderr[-600:]}"
        )
    return done.stdout


def read(module: str, told: str) -> Iterator[Mutant]:
    """Yield the mutants of a dump: one JSON pair (work, result) per line."""
    for line in told.splitlines():
        work, result = json.loads(line)
        for one in work["mutations"]:
            outcome = "not run" if result is None else str(result["test_outcome"] or "skipped")
            if result is not None and "skipped" in str(result["worker_outcome"]).lower():
                outcome = "skipped"
            yield Mutant(
                module, int(one["start_pos"][0]), one["operator_name"].partition("/")[2],
                outcome.rpartition(".")[2].lower(), changed(result),
            )  # fmt: skip


def changed(result: dict[str, Any] | None) -> str:
    """Return the lines that a mutant changes."""
    lines = str((result or {}).get("diff") or "").splitlines()
    return "\n".join(line for line in lines
                     if line[:1] in "+-" and line[:3] not in ("+++", "---"))  # fmt: skip


def accepted() -> dict[str, list[dict[str, str]]]:
    """Return module -> lines whose mutants nobody can notice, with the reason."""
    return tomllib.loads(ACCEPTED.read_text(encoding="utf-8")) if ACCEPTED.exists() else {}


def unexplained(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Return the survivors that no line of mutants.toml explains."""
    known = accepted()
    return [
        one
        for one in mutants
        if one.outcome == "survived"
        and not any(line["code"] in one.change for line in known.get(one.module, []))
    ]


def main(given: Sequence[str] | None = None) -> int:
    """Hunt, tell the survivors, write down; exit code 1 where one is not explained."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    chosen = parser.parse_args(given).modules
    if unknown := [name for name in chosen if name not in MODULES]:
        parser.error(f"no tests are named for {', '.join(unknown)}; known: {', '.join(MODULES)}")
    try:
        import cosmic_ray  # noqa: F401
    except ImportError:
        print("mutants: not hunted, cosmic-ray is missing (pip install 'midcall[mutants]')")
        return 0
    found: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="midcall-") as place:
        copy(Path(place))
        for module in chosen:
            mutants = hunted(module, Path(place))
            found += mutants
            killed = sum(one.outcome in ("killed", "incompetent") for one in mutants)
            left = len(unexplained(mutants))
            print(f"{module}: {len(mutants)} mutants, {killed} noticed, {left} survive", flush=True)
    left = unexplained(found)
    facts = {
        "modules": {
            name: {
                "mutants": sum(one.module == name for one in found),
                "noticed": sum(one.module == name and one.outcome != "survived" for one in found),
                "survive": sum(one.module == name for one in left),
            }
            for name in chosen
        }
    }
    fine = f"{len(found)} mutants: every one is noticed or explained"
    return settle("mutants", [one.text for one in left], fine, facts)


if __name__ == "__main__":
    sys.exit(main())
