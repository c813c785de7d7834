# SPDX-License-Identifier: BSD-3-Clause
"""A/A tests: how often one of the lab's tests has p < ALPHA of two arms that are the same.

What is counted is each test's own p, uncorrected. `midcall compare` of several runs is more
cautious: it corrects all of its tests together and wants the shift's interval clear of zero, too.

Both arms are the empty policy, played in the order ABBA; a test is one measure of one direction of
one call over all plays of a round. Live, what differs is the network and the machine. In virtual
time it is the access network's loss and jitter, which every play draws anew, and a rule that is
enforced on half of the clients, so that blocks can be counted too (Fisher's exact test).
A measure that is the same in every play is no test. Rounds are made until enough tests are pooled.
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
#: Below it, an uncorrected p of two arms that are the same is a false positive (evaluation.md).
ALPHA = 0.01
#: Tests behind a published rate, and plays of each arm: 2 / 2**8 is below ALPHA, 2 / 2**7 is not.
TESTS, PAIRS = 300, 8
#: Rounds that bring no test at all end the search.
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
        """Tell whether the test's own p, uncorrected, is below ALPHA."""
        return self.p < ALPHA


class Player(Protocol):
    """What plays an arm once; `number` is that of the play among all of its round."""

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        ...


# ---- what is measured


def measures(simulation: Any, call: Call) -> Iterator[tuple[str, float]]:
    """Yield share of media lost, mean delay and its deviation, in ms, per direction of a call."""
    orders = simulation.script
    part = next(one for one in orders.calls if one.id == call.id)
    media = np.isin(orders.flow, part.flows) & (orders.media == 1) & simulation.fates["sent"]
    for name, side in (("up", 0), ("down", 1)):
        own = media & (orders.side == side)
        if int(own.sum()) < FEWEST:
            continue
        came = own & simulation.delivered
        yield f"{name}: media lost", float(1 - came.sum() / own.sum())
        if came.any():
            late = simulation.one_way[came] / 1e6
            yield f"{name}: delay", float(late.mean())
            yield f"{name}: jitter", float(late.std())


class Virtual:
    """Plays in virtual time: the access network's own chances are drawn anew in every play."""

    def __init__(self, items: Sequence[Item], seed: int, access: str) -> None:
        self.items, self.seed, self.access = list(items), seed, access
        self.packets = {item.capture.sha256: read(item.path) for item in items}

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        out: Values = {}
        for item in self.items:
            out |= self.one(item, round_, number)
        return out

    def one(self, item: Item, round_: int, number: int) -> Values:
        """Return the measures of one capture's calls, and whether a rule of chance blocked them."""
        from midcall.testbed.assess.call_verdict import judge
        from midcall.testbed.replay.simulator import PRESET, simulate

        name, packets = item.capture.name, self.packets[item.capture.sha256]
        seed = derived_seed(self.seed, "aa", name, str(round_), str(number))
        free, half = (
            simulate(packets, item.calls, [], policy, self.access, seed, link=PRESET)
            for policy in (None, by_chance())
        )
        out = {
            (name, call.id, measure): value
            for call in item.calls
            for measure, value in measures(free, call)
        }
        verdicts = {call.id: judge(half, free, call) for call in item.calls}
        return out | {(name, one, BLOCKED): float(v.blocked) for one, v in verdicts.items()}


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
    """Plays on the emulated network: every capture at once, under the empty policy."""

    def __init__(self, items: Sequence[Item], spec_: spec.Spec, access: str) -> None:
        from midcall.experiments.cells.live_cell import LiveBench

        self.bench = LiveBench(items, spec_.seed, "captured", spec_.seconds, spec.OWN, print)
        self.access = access

    def play(self, round_: int, number: int) -> Values:
        """Return every measure of every call in one play."""
        played = self.bench.play(None, self.access)
        return {
            (one.item.capture.name, call.id, measure): value
            for at, one in enumerate(self.bench.opened)
            for call in one.item.calls
            for measure, value in measures(played.simulations[at], call)
        }


# ---- tests


def null_tests(round_: int, a: Sequence[Values], b: Sequence[Values], seed: int) -> Iterator[Null]:
    """Yield the tests of one round: plays of both arms, paired in the order they were made."""
    for key in sorted(a[0]):
        if not all(key in play for play in (*a, *b)):
            continue
        one, other = ([play[key] for play in arm] for arm in (a, b))
        if len({*one, *other}) < 2:
            continue
        own = derived_seed(seed, "aa test", str(round_), *key)
        yield Null(round_, *key, *tested(key[2], one, other, own))


def tested(
    measure: str, a: Sequence[float], b: Sequence[float], seed: int
) -> tuple[float, float | None]:
    """Return p, and for what is no block the Hodges-Lehmann shift."""
    if measure == BLOCKED:
        return significance.fisher(int(sum(a)), len(a), int(sum(b)), len(b)), None
    return significance.paired_permutation(a, b, seed), significance.hodges_lehmann(a, b)


def rounds(
    player: Player, wanted: int, pairs: int, seed: int, step: Callable[[int], None]
) -> list[Null]:
    """Return at least `wanted` null tests; `step` is told how many there are after each round.

    Raises ExperimentError where nothing ever differs, so that nothing can be tested.
    """
    found: list[Null] = []
    for round_ in range(MOST_ROUNDS):
        arms: dict[str, list[Values]] = {"A": [], "B": []}
        for number, arm in enumerate(significance.abba(pairs)):
            arms[arm].append(player.play(round_, number))
        found += null_tests(round_, arms["A"], arms["B"], seed)
        if not found:
            raise ExperimentError("no call has a measure that differs between plays: no A/A test")
        step(len(found))
        if len(found) >= wanted:
            break
    return found


# ---- the command's work, and what is kept of it


class Options(NamedTuple):
    """What is played: a spec's captures, on its first access network."""

    spec: str
    folder: Path | None = None
    tests: int = TESTS
    pairs: int = PAIRS
    backend: str | None = None
    runs: Path = Path("runs")


def run(options: Options, step: Callable[[int], None] = lambda n: None) -> Row:
    """Play A/A rounds, keep the result below the folder of runs, and return it."""
    wanted, _ = spec.load(options.spec)
    held = corpus.gather(wanted, options.folder)
    items = [item for item in held.items if item.calls]
    access = wanted.access[0]
    backend = backends.choose(wanted, options.backend).backend
    player: Player
    if backend == backends.LIVE:
        player = Live(items, wanted, access)
    else:
        player = Virtual(items, wanted.seed, access)
    tests = rounds(player, options.tests, options.pairs, wanted.seed, step)
    told = {
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
        **counted(tests),
        "rows": [{**one._asdict(), "false_positive": one.false_positive} for one in tests],
    }
    stamp = told["ended"].replace(":", "").replace("-", "").replace("+0000", "Z")
    write_json(options.runs / FOLDER / f"{stamp}-{backend}.json", told)
    return told


def counted(tests: Sequence[Null]) -> Row:
    """Return tests, false positives, their rate with its exact interval, and what was tested."""
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
    """Return `aa` of summary.json: all results below `runs` of the newest code, per backend added.

    A test in virtual time that several results hold counts once. None where there is no result.
    `published`: whether enough tests stand behind the rate.
    """
    held = [told for path in sorted((runs / FOLDER).glob("*.json")) if (told := kept(path))]
    if not held:
        return None
    held.sort(key=lambda told: told["ended"])
    newest = held[-1]
    own = [told for told in held if told["code"] == newest["code"]]
    rows = {key: row for number, told in enumerate(own) for key, row in distinct(number, told)}
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


def distinct(number: int, told: Row) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """Yield a result's tests by backend and what else makes each one a test of its own.

    Live, every play is a new one: the result's number. In virtual time whatever seeds the plays:
    seed, access, the capture's name and sha256, the round. The spec's name and the pairs do not:
    more pairs of one round begin with the same plays.
    """
    for row in told["rows"]:
        what = (row["round"], row["capture"], row["call"], row["measure"])
        if told["backend"] == backends.LIVE:
            yield (told["backend"], number, *what), row
        else:
            seeds = (told["seed"], told["access"], told["sha256"][row["capture"]])
            yield (told["backend"], *seeds, *what), row


def kept(path: Path) -> Row | None:
    """Return a result, None where the file is none."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("schema") == SCHEMA else None


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return a result as a person reads it."""
    low, high = told["interval"]
    return [
        f"{told['tests']} null tests in {told['rounds']} rounds of {told['pairs']} + "
        f"{told['pairs']} plays ({told['backend']}, {told['captures']} captures, {told['access']})",
        f"{told['false_positives']} have an uncorrected p < {told['alpha']:g}: "
        f"{100 * told['rate']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f} %)",
        judgement(told),
    ]


def judgement(told: Mapping[str, Any]) -> str:
    """Return in a sentence what the rate says of the tests."""
    low, _ = told["interval"]
    if low > told["alpha"]:
        return "more than alpha: the tests find differences where there are none"
    if told["tests"] < TESTS:
        return f"consistent with alpha; a published rate needs {TESTS} tests"
    return "consistent with alpha"
