# SPDX-License-Identifier: BSD-3-Clause
"""A/A tests: how often the lab's tests report p < ALPHA for two arms that are equal.

Counted is each test's own uncorrected p. `midcall compare` of several runs is more conservative: it
corrects all of its tests together and also requires the interval of the shift to exclude zero.

Both arms are the empty policy, played in the order ABBA; a test is one measure of one direction of
one call over all plays of a round. Live, the plays differ by the network and the machine. In
virtual time they differ by the access network's loss and jitter, which every play draws again, and
by a rule that is enforced on half of the clients, so that blocks can be counted too (Fisher's exact
test). A measure that is equal in every play is not tested. Rounds are made until enough tests are
pooled.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import Call
from midcall.errors import ExperimentError
from midcall.experiments.measure import significance
from midcall.experiments.measure.intervals import clopper_pearson, derived_seed
from midcall.experiments.results.provenance import CELL_PACKAGES, code_digest, machine
from midcall.experiments.results.schema import write_json
from midcall.experiments.spec import backends, corpus, spec
from midcall.experiments.spec.corpus import Item

Row = dict[str, Any]
#: (capture, call, measure) -> its value in one play.
Values = dict[tuple[str, str, str], float]

SCHEMA = 2
FOLDER = "aa"
#: An uncorrected p below it for two equal arms is a false positive (evaluation.md).
ALPHA = 0.01
#: Tests behind a published rate, and plays of each arm: 2 / 2**8 is below ALPHA, 2 / 2**7 is not.
TESTS, PAIRS = 300, 8
#: Largest number of rounds.
MOST_ROUNDS = 200
#: Fewer media packets of a direction than this are not measured.
FEWEST = 20
BLOCKED = "blocked"


class Null(NamedTuple):
    """One null test: what was compared, its uncorrected p, and the shift b - a."""

    round: int
    capture: str
    call: str
    measure: str
    p: float
    shift: float | None

    @property
    def false_positive(self) -> bool:
        """Return whether the test's own uncorrected p is below ALPHA."""
        return self.p < ALPHA


class Player(Protocol):
    """Plays an arm once; `number` is the play's index among all of its round."""

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        ...


# ---- measures


def measures(simulation: Any, call: Call) -> Iterator[tuple[str, float]]:
    """Yield the share of media lost, the mean delay and its deviation (ms), per direction of a
    call."""
    script = simulation.script
    call_flows = next(one for one in script.calls if one.id == call.id)
    media = np.isin(script.flow, call_flows.flows) & (script.media == 1) & simulation.fates["sent"]
    for direction, side in (("up", 0), ("down", 1)):
        own = media & (script.side == side)
        if int(own.sum()) < FEWEST:
            continue
        arrived = own & simulation.delivered
        yield f"{direction}: media lost", float(1 - arrived.sum() / own.sum())
        if arrived.any():
            delays_ms = simulation.one_way[arrived] / 1e6
            yield f"{direction}: delay", float(delays_ms.mean())
            yield f"{direction}: jitter", float(delays_ms.std())


class Virtual:
    """Plays in virtual time; every play draws the access network's random loss and jitter again."""

    def __init__(self, items: Sequence[Item], seed: int, access: str) -> None:
        self.items, self.seed, self.access = list(items), seed, access
        self.packets = {item.capture.sha256: read(item.path) for item in items}

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        values: Values = {}
        for item in self.items:
            values |= self.one(item, round_, number)
        return values

    def one(self, item: Item, round_: int, number: int) -> Values:
        """Return the measures of one capture's calls, and whether the rule on half of the clients
        blocked them."""
        from midcall.testbed.assess.call_verdict import judge
        from midcall.testbed.replay.simulator import PRESET, simulate

        name, packets = item.capture.name, self.packets[item.capture.sha256]
        seed = derived_seed(self.seed, "aa", name, str(round_), str(number))
        free, half = (
            simulate(packets, item.calls, [], policy, self.access, seed, link=PRESET)
            for policy in (None, by_chance())
        )
        values = {
            (name, call.id, measure): value
            for call in item.calls
            for measure, value in measures(free, call)
        }
        verdicts = {call.id: judge(half, free, call) for call in item.calls}
        return values | {(name, one, BLOCKED): float(v.blocked) for one, v in verdicts.items()}


def by_chance() -> Any:
    """Return a policy that drops all UDP of half of the clients."""
    from midcall.testbed.policy.language import Rule
    from midcall.testbed.policy.operator import Policy

    rule = Rule.model_validate(
        {"name": "half", "match": {"protocol": "udp"}, "act": "drop", "probability": 0.5}
        | {"per": "client", "grade": "D", "source": "the lab's own, for A/A tests"}
    )
    return Policy((rule,))


class Live:
    """Plays on the emulated network: all captures at once, under the empty policy."""

    def __init__(self, items: Sequence[Item], spec_: spec.Spec, access: str) -> None:
        from midcall.experiments.cells.live_cell import LiveBench

        self.bench = LiveBench(items, spec_.seed, "captured", spec_.seconds, spec.OWN, print)
        self.access = access

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        cell = self.bench.play(None, self.access)
        return {
            (one.item.capture.name, call.id, measure): value
            for at, one in enumerate(self.bench.opened)
            for call in one.item.calls
            for measure, value in measures(cell.simulations[at], call)
        }


# ---- tests


def null_tests(round_: int, a: Sequence[Values], b: Sequence[Values], seed: int) -> Iterator[Null]:
    """Yield the tests of one round: plays of both arms, paired in the order they were made."""
    for key in sorted(a[0]):
        if not all(key in play for play in (*a, *b)):
            continue
        values_a, values_b = ([play[key] for play in arm] for arm in (a, b))
        if len({*values_a, *values_b}) < 2:
            continue
        test_seed = derived_seed(seed, "aa test", str(round_), *key)
        yield Null(round_, *key, *tested(key[2], values_a, values_b, test_seed))


def tested(
    measure: str, a: Sequence[float], b: Sequence[float], seed: int
) -> tuple[float, float | None]:
    """Return p, and the Hodges-Lehmann shift (None for the measure BLOCKED)."""
    if measure == BLOCKED:
        return significance.fisher(int(sum(a)), len(a), int(sum(b)), len(b)), None
    return significance.paired_permutation(a, b, seed), significance.hodges_lehmann(a, b)


def rounds(
    player: Player, wanted: int, pairs: int, seed: int, step: Callable[[int], None]
) -> list[Null]:
    """Return at least `wanted` null tests; `step` is called with their number after each round.

    Raises ExperimentError if no measure differs between plays, so that nothing can be tested.
    """
    tests: list[Null] = []
    for round_ in range(MOST_ROUNDS):
        arms: dict[str, list[Values]] = {"A": [], "B": []}
        for number, arm in enumerate(significance.abba(pairs)):
            arms[arm].append(player.play(round_, number))
        tests += null_tests(round_, arms["A"], arms["B"], seed)
        if not tests:
            raise ExperimentError("no call has a measure that differs between plays: no A/A test")
        step(len(tests))
        if len(tests) >= wanted:
            break
    return tests


# ---- the command and its results


class Options(NamedTuple):
    """The options of A/A rounds: a spec's captures are played on its first access network."""

    spec: str
    folder: Path | None = None
    tests: int = TESTS
    pairs: int = PAIRS
    backend: str | None = None
    runs: Path = Path("runs")


def run(options: Options, step: Callable[[int], None] = lambda n: None) -> Row:
    """Play A/A rounds, write the result below the folder of runs, and return it."""
    wanted, _ = spec.load(options.spec)
    gathered = corpus.gather(wanted, options.folder)
    items = [item for item in gathered.items if item.calls]
    access = wanted.access[0]
    backend = backends.choose(wanted, options.backend).backend
    player: Player
    if backend == backends.LIVE:
        player = Live(items, wanted, access)
    else:
        player = Virtual(items, wanted.seed, access)
    tests = rounds(player, options.tests, options.pairs, wanted.seed, step)
    result = {
        "schema": SCHEMA,
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code": own_code(),
        "spec": wanted.name,
        "seed": wanted.seed,
        "backend": backend,
        "access": access,
        "captures": len(items),
        "sha256": {item.capture.name: item.capture.sha256 for item in items},
        "pairs": options.pairs,
        "machine": machine(),
        **false_positive_figures(tests),
        "rows": [{**one._asdict(), "false_positive": one.false_positive} for one in tests],
    }
    stamp = result["ended"].replace(":", "").replace("-", "").replace("+0000", "Z")
    write_json(options.runs / FOLDER / f"{stamp}-{backend}.json", result)
    return result


def false_positive_figures(tests: Sequence[Null]) -> Row:
    """Return tests, false positives, their rate with its exact interval, and the measures
    tested."""
    hits = sum(one.false_positive for one in tests)
    return {
        "tests": len(tests),
        "false_positives": hits,
        "alpha": ALPHA,
        "rate": hits / len(tests),
        "interval": clopper_pearson(hits, len(tests)),
        "rounds": len({one.round for one in tests}),
        "measures": sorted({one.measure for one in tests}),
    }


def own_code() -> str:
    """Return the digest of the code that plays and tests."""
    return code_digest((*CELL_PACKAGES, "experiments"))


def pooled(runs: Path) -> Row | None:
    """Return `aa` of summary.json: all results of the newest code below `runs`, pooled over
    backends.

    A test in virtual time that is in several results counts once. None if there is no result.
    `published`: whether the rate rests on enough tests.
    """
    results = [
        result for path in sorted((runs / FOLDER).glob("*.json")) if (result := read_result(path))
    ]
    if not results:
        return None
    results.sort(key=lambda result: result["ended"])
    newest = results[-1]
    current = [result for result in results if result["code"] == newest["code"]]
    rows = {
        key: row for number, result in enumerate(current) for key, row in distinct(number, result)
    }
    tests, hits = len(rows), sum(row["false_positive"] for row in rows.values())
    backends_of = Counter(key[0] for key in rows)
    return {
        "tests": tests,
        "false_positives": hits,
        "alpha": ALPHA,
        "rate": hits / tests,
        "interval": clopper_pearson(hits, tests),
        "published": tests >= TESTS,
        "backends": dict(sorted(backends_of.items())),
        "ended": newest["ended"],
        "same_code": newest["code"] == own_code(),
    }


def distinct(number: int, result: Row) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """Yield a result's tests with their backend and further keys that make a test distinct.

    Live, every play is new: the key is the result's number. In virtual time the keys are the seeds
    of the plays: seed, access, the capture's name and sha256, the round. The spec's name and the
    number of pairs are no keys: more pairs of one round begin with the same plays.
    """
    for row in result["rows"]:
        keys = (row["round"], row["capture"], row["call"], row["measure"])
        if result["backend"] == backends.LIVE:
            yield (result["backend"], number, *keys), row
        else:
            seeds = (result["seed"], result["access"], result["sha256"][row["capture"]])
            yield (result["backend"], *seeds, *keys), row


def read_result(path: Path) -> Row | None:
    """Return the result in a file, None if the file has none."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("schema") == SCHEMA else None


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return a result as lines of text."""
    low, high = result["interval"]
    return [
        f"{result['tests']} null tests in {result['rounds']} rounds of {result['pairs']} + "
        f"{result['pairs']} plays ({result['backend']}, {result['captures']} captures, "
        f"{result['access']})",
        f"{result['false_positives']} have an uncorrected p < {result['alpha']:g}: "
        f"{100 * result['rate']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f} %)",
        judgement(result),
    ]


def judgement(result: Mapping[str, Any]) -> str:
    """Return the conclusion from the rate in one sentence."""
    low, _ = result["interval"]
    if low > result["alpha"]:
        return "more than alpha: the tests find differences where there are none"
    if result["tests"] < TESTS:
        return f"consistent with alpha; a published rate needs {TESTS} tests"
    return "consistent with alpha"
