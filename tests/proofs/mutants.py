# SPDX-License-Identifier: BSD-3-Clause
"""Mutants: changed copies of the code that decides figures, each of which a test should notice.

`python -m tests.proofs.mutants [MODULE ...]` (make mutants) changes one operator, number,
comparison or keyword at a time, by cosmic-ray's operators, and runs the module's own tests against
it. A mutant is a process of its own, forked from one that has imported the libraries, which imports
the changed text in place of the module: nothing is written into the checkout. A mutant that
survives is told with its change, and is a problem unless `mutants.toml` says of what is written
there why no test can tell it from the original. Everything runs as plain Python: kernels would be
compiled anew each time.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from midcall.locations import ROOT
from tests.proofs.ledger import settle

ACCEPTED = Path(__file__).with_suffix(".toml")
POLICY_TESTS = (
    "tests/testbed/test_policy.py", "tests/testbed/test_language.py",
    "tests/testbed/test_operator.py", "tests/testbed/test_lint.py",
    "tests/testbed/test_profiles.py",
)  # fmt: skip
#: Scenarios of conformance, without those whose thousands of packets are slow as plain Python.
SCENARIOS = "tests/testbed/test_conformance.py::test_a_scenario_comes_out_as_its_table_says"
CONFORMANCE = (
    SCENARIOS, f"--deselect={SCENARIOS}[rule.burst", f"--deselect={SCENARIOS}[act.loss",
)  # fmt: skip
#: Module -> the tests that must notice its mutants.
MODULES: dict[str, tuple[str, ...]] = {
    "experiments/measure/intervals.py": (
        "tests/experiments/test_statistics.py", "tests/experiments/test_metrics.py",
    ),
    "experiments/measure/significance.py": ("tests/experiments/test_significance.py",),
    "experiments/measure/metrics.py": ("tests/experiments/test_metrics.py",),
    "testbed/policy/syntax.py": POLICY_TESTS,
    "testbed/policy/language.py": POLICY_TESTS,
    "testbed/policy/operator.py": POLICY_TESTS,
    "testbed/policy/loader.py": POLICY_TESTS,
    "testbed/middlebox/rule_table.py": (
        "tests/testbed/test_rules.py", "tests/testbed/test_middlebox.py", *CONFORMANCE,
    ),
}  # fmt: skip
#: Operators that are left out: `|` of annotations, which nobody evaluates, and exotic replacements.
LEFT_OUT = re.compile(
    "core/(ReplaceBinaryOperator_BitOr_.*"
    "|ReplaceBinaryOperator_.*_(Pow|Mod|LShift|RShift|BitOr|BitAnd|BitXor|FloorDiv)"
    "|ReplaceUnaryOperator_.*_Invert"
    "|ReplaceComparisonOperator_.*_(Is|IsNot))"
)
#: Imported once, before the processes of the mutants are made.
LIBRARIES = ("pytest", "numba", "pydantic", "pyarrow", "scipy.stats", "sklearn.ensemble")
LAB = ("midcall", "tests")
#: Seconds of the processor and octets that the tests of one mutant may take, so an endless loop is
#: noticed; and seconds of the clock, however busy the machine is.
PROCESSOR = 60
PATIENCE = 1200
MEMORY = 8 << 30
QUIET = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout")


class Mutant(NamedTuple):
    """A change: module, operator of cosmic-ray, which of its places, and the line there."""

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def source(self) -> str:
        """Return the module's text with the change."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        text = (ROOT / self.module).read_text(encoding="utf-8")
        return str(mutate_code(text, get_operator(self.operator)(), self.occurrence))

    @property
    def change(self) -> str:
        """Return the lines that it takes and gives."""
        text = (ROOT / self.module).read_text(encoding="utf-8")
        lines = difflib.unified_diff(text.splitlines(), self.source.splitlines(), lineterm="", n=0)
        return "\n".join(list(lines)[3:])

    @property
    def text(self) -> str:
        """Return the mutant as a sentence."""
        name = self.operator.partition("/")[2]
        return f"{self.module}:{self.line}: {name} survives\n{self.change}"


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, by operator and place."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    tree = get_ast((ROOT / module).read_text(encoding="utf-8"))
    for name in operator_names():
        kind = get_operator(name)
        if LEFT_OUT.match(name) or kind.arguments():
            continue
        operator = kind()
        places = (
            (node, start)
            for node in ast_nodes(tree)
            for start, _ in operator.mutation_positions(node)
        )
        for occurrence, (node, start) in enumerate(places):
            if not orders_names(name, node):
                yield Mutant(module, name, occurrence, int(start[0]))


def orders_names(operator: str, node: Any) -> bool:
    """Tell whether a change asks for the order of names: `==` or `!=` with a text made `<`."""
    ordering = re.match("core/ReplaceComparisonOperator_(Eq|NotEq)_[LG]t", operator)
    return bool(ordering) and str(node.get_last_leaf().type) == "string"


class Changed(SourceFileLoader):
    """Finds and loads one module with another text, whatever stands in its file."""

    def __init__(self, module: str, text: str) -> None:
        name = module.removesuffix(".py").replace("/", ".")
        super().__init__(f"midcall.{name}", str(ROOT / "midcall" / module))
        self.text = text

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the module's spec where it is the one asked for."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Return the changed text, compiled."""
        return compile(self.text, self.path, "exec", dont_inherit=True)


def carry_out(module: str, text: str, tests: Sequence[str], place: str) -> NoReturn:
    """Run the tests against a module's text, in a process made for it, which ends with it."""
    code: int = 1
    try:
        signal.alarm(PATIENCE)
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        import numba
        import pytest

        os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        numba.config.DISABLE_JIT = 1
        for name in [name for name in sys.modules if name.partition(".")[0] in LAB]:
            del sys.modules[name]
        sys.meta_path.insert(0, Changed(module, text))
        os.chdir(ROOT)
        code = pytest.main([*QUIET, "--basetemp", place, *tests])
    finally:
        os._exit(code)


def started(module: str, text: str, place: str) -> int:
    """Start the module's tests against a text; returns the process."""
    sys.stdout.flush()
    child = os.fork()
    return child or carry_out(module, text, MODULES[module], place)


def survives(module: str, text: str, place: str) -> bool:
    """Tell whether a module's tests pass with this text in its place."""
    _, status = os.waitpid(started(module, text, place), 0)
    return status == 0


def hunted(mutants: Sequence[Mutant], place: str) -> list[Mutant]:
    """Return the mutants that no test notices; as many at once as there are cores."""
    running: dict[int, Mutant] = {}
    alive: list[Mutant] = []
    for number, one in enumerate(mutants):
        running[started(one.module, one.source, f"{place}/{number}")] = one
        while len(running) >= (os.cpu_count() or 1) or (one is mutants[-1] and running):
            child, status = os.wait()
            noticed = running.pop(child)
            alive += [noticed] if status == 0 else []
    return sorted(alive, key=lambda one: one.line)


def accepted() -> dict[str, list[dict[str, str]]]:
    """Return module -> lines whose mutants nobody can notice, with the reason."""
    return tomllib.loads(ACCEPTED.read_text(encoding="utf-8")) if ACCEPTED.exists() else {}


def unexplained(survivors: Sequence[Mutant]) -> list[Mutant]:
    """Return the survivors that no line of mutants.toml explains."""
    known = accepted()
    return [
        one
        for one in survivors
        if not any(line["code"] in one.change for line in known.get(one.module, []))
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
    for name in LIBRARIES:
        importlib.import_module(name)
    facts: dict[str, Any] = {}
    left: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="midcall-") as place:
        for module in chosen:
            if not survives(module, (ROOT / module).read_text(encoding="utf-8"), f"{place}/plain"):
                raise SystemExit(f"mutants: the tests of {module} fail as it is: {MODULES[module]}")
            mutants = list(mutants_of(module))
            alive = hunted(mutants, place)
            result = unexplained(alive)
            left += result
            facts[module] = {
                "mutants": len(mutants),
                "noticed": len(mutants) - len(alive),
                "explained": len(alive) - len(result),
                "survive": len(result),
            }
            print(
                f"{module}: {', '.join(f'{n} {what}' for what, n in facts[module].items())}",
                flush=True,
            )
    whole = sum(row["mutants"] for row in facts.values())
    fine = f"{whole} mutants: every one is noticed or explained"
    return settle("mutants", [one.text for one in left], fine, {"modules": facts})


if __name__ == "__main__":
    sys.exit(main())
