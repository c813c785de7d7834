# SPDX-License-Identifier: BSD-3-Clause
"""The spec of an experiment: a strict TOML file that names what is run, with which seed.

Unknown keys are errors. All problems are reported at once, each with its key path and, if there is
one, the closest known word.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from midcall.access import Access
from midcall.apps import APPS
from midcall.errors import ExperimentError
from midcall.locations import EXPERIMENTS
from midcall.suggestions import hint, nearest

SHIPPED = EXPERIMENTS / "specs"

if TYPE_CHECKING:
    App = str
else:
    App = Literal[APPS[1:]]  # every app but "none"
Backend = Literal["virtual", "live", "auto"]
#: The lab's own middlebox; other names are middleboxes of testbed.live.devices.blackbox.
OWN = "midcall"
#: Third-party middleboxes, by their names in testbed.live.devices.blackbox.
BOXES = ("suricata", "nfqueue", "command")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]


class Strict(BaseModel):
    """A table in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Day(Strict):
    """One date of the grid, with the words the report shows for it.

    time: of day, None for one at which rules with `hours` are in force.
    """

    date: datetime.date
    label: str = Field(min_length=1)
    time: datetime.time | None = None


class Captures(Strict):
    """Which captures take part. `names` (file or capture names) narrows the others further.

    recorded: recordings of real programs in the lab; they take part alone, so that figures of
    public captures do not include them.
    """

    real: bool = True
    synthetic: bool = True
    added: bool = True
    recorded: bool = False
    names: list[str] | None = None
    innocents: Literal["all", "none"] = "all"

    @model_validator(mode="after")
    def _apart(self) -> Captures:
        if self.recorded and (self.real or self.synthetic):
            raise ValueError(
                "captures: recorded = true goes with real = false and synthetic = false: recorded "
                "calls have figures of their own"
            )
        return self


class Timing(Strict):
    """Limits of the timing measurement: packets, and seconds of wall-clock time."""

    packets: int = Field(default=1_000_000, ge=1, le=50_000_000)
    seconds: float = Field(default=4.0, gt=0, le=600)


class Evaluation(Strict):
    """How a run evaluates the classifier: the peers, and the number of innocent flows to craft."""

    enabled: bool = True
    peers: list[Literal["ndpi", "nfstream", "tshark"]] = ["ndpi", "nfstream", "tshark"]
    flows: int = Field(default=150_000, ge=0, le=10_000_000)


class Localise(Strict):
    """Localisation of what boxes match, from their answers: captures x boxes, and the benchmark.

    captures: names of the catalogue or files; boxes: OPERATOR/HYPOTHESIS[/RULE], or a live one
    ("live: ...", "suricata: RULES", "command: WORDS"); access: the access network of the rules;
    box_noise: the share of the boxes' answers that may be wrong; error: the probability of a wrong
    result for one question; budget: probes for one box or planted rule; planted: whether the
    benchmark is run, at shares of wrong answers `noise`; drawn: how many random rules it adds to
    the list; outsider: whether it also has the third-party rules
    (experiments.proofs.localiser.third_party_rules).
    """

    captures: list[str] = []
    boxes: list[str] = []
    access: Access = "4g"
    box_noise: float = Field(default=0.0, ge=0.0, lt=0.5)
    error: float = Field(default=1e-4, gt=0.0, lt=0.5)
    planted: bool = True
    drawn: int = Field(default=0, ge=0, le=10_000)
    outsider: bool = False
    noise: list[Annotated[float, Field(ge=0.0, lt=0.5)]] = Field(default=[0.0, 0.05], min_length=1)
    budget: int = Field(default=20_000, ge=1)

    @model_validator(mode="after")
    def _both(self) -> Localise:
        if bool(self.captures) != bool(self.boxes):
            raise ValueError("localise: captures and boxes belong together, one of them is missing")
        if not self.boxes and not self.planted:
            raise ValueError("localise: nothing to do: no boxes, and planted = false")
        return self


class Engines(Strict):
    """The matrix of an operator's hypotheses and packet engines (experiments.engines.matrix).

    captures: names of the catalogue or files, whose packets go through each engine, or "all" that
    are here; edge_cases: whether synthetic packets at the edges of matches do, too
    (experiments.engines.edge_cases); cells: "exact" for those alone whose export names no
    difference; edits: random edits of policies under each engine (experiments.engines.edits);
    speed: the policy under which engines are timed, "" for none (experiments.engines.speed, needs
    root).
    """

    operator: str = "mechanisms"
    engines: list[Literal["suricata", "nftables", "iptables", "ndpi"]] = [
        "suricata", "nftables", "iptables", "ndpi",
    ]  # fmt: skip
    captures: Literal["all"] | Annotated[list[str], Field(min_length=1)]
    edge_cases: bool = True
    cells: Literal["all", "exact"] = "all"
    edits: int = Field(default=0, ge=0, le=10_000)
    speed: str = ""
    access: Access = "4g"


class QualityDose(Strict):
    """Dose and response of call quality (experiments.accuracy.quality_dose).

    calls: of the captures of the run, so many of each app at most; seconds: of each call.
    """

    calls: int = Field(default=6, ge=1, le=1000)
    seconds: int = Field(default=30, ge=5, le=3600)


class Probing(Strict):
    """The prober: how many drawn cases of each kind are probed, and what else.

    clean: lines without a rule; one, two: policies of one and of two rules; incidents: whether the
    incidents of experiments/probe/incidents.toml are probed, and the statements on them played;
    live: drawn policies that are probed in virtual time and between namespaces (needs root).
    """

    clean: int = Field(default=24, ge=0, le=100_000)
    one: int = Field(default=12, ge=0, le=100_000)
    two: int = Field(default=4, ge=0, le=100_000)
    incidents: bool = False
    live: int = Field(default=0, ge=0, le=1_000)

    @model_validator(mode="after")
    def _some(self) -> Probing:
        if not (self.clean or self.one or self.two or self.incidents or self.live):
            raise ValueError("probe: nothing to do: every count is 0, and incidents is false")
        return self


class ProgramCall(Strict):
    """One live call; the keys are those of testbed.programs.calls.plan.Plan."""

    caller: Literal["chromium", "aiortc", "baresip"]
    media: Literal["audio", "audio+video", "screen", "data"] = "audio"
    path: Literal["direct", "turn-udp", "turn-tcp", "turn-tls", "any"] = "direct"
    seconds: float = Field(default=6.0, gt=0, le=600)
    security: Literal["rtp", "srtp"] = "rtp"
    registrar: bool = False

    @model_validator(mode="after")
    def _possible(self) -> ProgramCall:
        from midcall.testbed.programs.calls.plan import Plan

        if problems_found := Plan(**self.model_dump()).problems():
            raise ValueError("; ".join(problems_found))
        return self


class Programs(Strict):
    """Live calls of real programs under every policy of the grid (needs root on Linux).

    calls: the calls to make; arms: "live", the call itself under the policy, and "replay", the same
    call recorded without a policy and replayed under it; repeats: how often each is made live.
    """

    calls: list[ProgramCall] = Field(min_length=1)
    arms: list[Literal["replay", "live"]] = ["replay", "live"]
    repeats: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _live(self) -> Programs:
        if "live" not in self.arms:
            raise ValueError('programs.arms: expected "live" among them; replay alone needs none')
        return self


class Spec(Strict):
    """One experiment: the grid operator x hypothesis x access x date over calls and innocents.

    link: delay and loss of the access network as captured, or also those of its preset;
    conformance: whether the policy language's scenarios are replayed too; laws: whether the laws of
    verdicts are checked on the captures too; reaction: a CSV of public reaction
    (experiments.report.reaction), as a path relative to the spec's folder; arms, disguises: whether
    the calls are also replayed as control arms, as disguises; backend: "auto" is live if this
    machine can; seconds: how much of each call is replayed, None for all; middlebox: the lab's own,
    or, with backend live and without operators, "suricata", "nfqueue" or "command: WORDS".
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**63)
    operators: list[str] = []
    hypotheses: Literal["all"] | list[str] = "all"
    access: list[Access] = Field(min_length=1)
    apps: list[App] = Field(min_length=1)
    dates: list[Day] = Field(min_length=1)
    link: Literal["captured", "preset"] = "captured"
    conformance: bool = False
    arms: bool = False
    disguises: bool = False
    backend: Backend = "virtual"
    seconds: float | None = Field(default=None, ge=1, le=3600)
    middlebox: str = OWN
    captures: Captures = Captures()
    timing: Timing = Timing()
    evaluation: Evaluation = Evaluation()
    localise: Localise | None = None
    engines: Engines | None = None
    quality: QualityDose | None = None
    laws: bool = False
    probe: Probing | None = None
    programs: Programs | None = None
    reaction: str | None = Field(default=None, min_length=1)

    @field_validator("apps", mode="before")
    @classmethod
    def _all_apps(cls, value: object) -> object:
        return list(APPS[1:]) if value == "all" else value

    @model_validator(mode="after")
    def _no_repeats(self) -> Spec:
        for key in ("operators", "access", "apps"):
            values = getattr(self, key)
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{key}: {', '.join(twice)} given more than once")
        days = [day.date for day in self.dates]
        if days != sorted(set(days)):
            raise ValueError("dates: must be in order, each once")
        return self

    @model_validator(mode="after")
    def _one_box(self) -> Spec:
        if self.middlebox == OWN:
            if not self.operators:
                raise ValueError("operators: none given, expected at least one")
            return self
        kind, _, words = self.middlebox.partition(":")
        if kind not in BOXES or (kind == "command") != bool(words.strip()):
            known = ", ".join(f'"{name}"' for name in (OWN, *BOXES[:2]))
            raise ValueError(
                f'middlebox: got {self.middlebox!r}, expected {known} or "command: PROGRAM WORDS"'
            )
        if self.operators or self.hypotheses != "all":
            raise ValueError(
                f"operators, hypotheses: {kind} knows no operator's policy, so none may stand here"
            )
        if self.backend != "live":
            raise ValueError(f'backend: {kind} is a live box, expected backend = "live"')
        if self.link != "captured":
            raise ValueError(
                f'link: {kind} stands between plain links, expected link = "captured" or none'
            )
        for key in ("arms", "disguises", "conformance"):
            if getattr(self, key):
                raise ValueError(f"{key}: is played in virtual time, where {kind} cannot stand")
        return self

    @property
    def scenario_year(self) -> int:
        """Return the year of the last date; a younger capture is of a "later client"."""
        return self.dates[-1].date.year


def shipped() -> dict[str, Path]:
    """Return the shipped specs: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def find(name: str) -> Path:
    """Return the file of a spec, given its path or the name of a shipped spec.

    Raises ExperimentError if there is none.
    """
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise ExperimentError(f"{name}: no such spec file ({hint(path.stem, known)})")
    raise ExperimentError(f"unknown spec {name} ({hint(name, known)})")


def load(name: str) -> tuple[Spec, bytes]:
    """Read a spec by name or path; return it and the bytes of its file.

    Raises ExperimentError naming every problem at once.
    """
    path = find(name)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(raw, str(path)), raw


def parse(raw: bytes, where: str) -> Spec:
    """Return the spec in the bytes of a file; `where` names the file in errors.

    Raises ExperimentError naming every problem at once.
    """
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{where}: no valid TOML: {error}") from error
    try:
        return Spec.model_validate(table)
    except ValidationError as error:
        lines = [_line(problem, table) for problem in error.errors(include_url=False)]
        if len(lines) == 1:
            raise ExperimentError(f"{where}: {lines[0]}") from error
        listing = "".join(f"\n  {line}" for line in lines)
        raise ExperimentError(f"{where}: {len(lines)} problems{listing}") from error


def _line(problem: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return one pydantic problem as "key.path: what is wrong (what to do)"."""
    place = [part for part in problem["loc"] if not _is_branch(part)]
    key = _dotted(place)
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        word = str(place[-1])
        known = _keys_at(place[:-1])
        close = nearest(word, known)
        advice = f"did you mean {close}?" if close else f"known: {', '.join(sorted(known))}"
        return f"{key}: unknown key ({advice})"
    if kind == "missing":
        return f"{key}: is missing"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind == "literal_error":
        return f"{key}: {problem['input']!r} is not known ({_advice(problem)})"
    got = problem["input"]
    shown = f", got {got!r}" if not isinstance(got, dict | list) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


def _advice(problem: Mapping[str, Any]) -> str:
    expected = [
        word.strip("' ") for word in problem["ctx"]["expected"].replace(" or ", ",").split(",")
    ]
    return hint(str(problem["input"]), expected)


def _is_branch(part: int | str) -> bool:
    """Return whether a part of a path is a union's branch name, which pydantic adds."""
    return isinstance(part, str) and ("[" in part or part in ("str",))


def _dotted(place: list[int | str]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "spec"


def _keys_at(place: list[int | str]) -> list[str]:
    """Return the keys that the table at this path may hold."""
    model: type[Strict] = Spec
    for part in place:
        if isinstance(part, str):
            model = _inner(next(f.annotation for n, f in model.model_fields.items() if n == part))
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner(annotation: Any) -> type[Strict]:
    if isinstance(annotation, type) and not isinstance(annotation, UnionType):
        if issubclass(annotation, Strict):
            return annotation
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, Strict):
            return argument
    return Spec
