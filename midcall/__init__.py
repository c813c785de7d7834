# SPDX-License-Identifier: BSD-3-Clause
"""Midcall: replay captures of real calls through an emulated operator middlebox.

The four folders are captures (what is replayed, and its truth), classifier (the packet path),
testbed (the middlebox, the network and the callers) and experiments (measurement and reports).

For programs: `captures` lists captures with their truth, `classify` names the flows of one,
`replay` plays one through an operator's policy, `run` carries out an experiment, `read` reads the
results of one. docs/howto/import.md shows each. Importing this package is cheap: the parts that a
function needs are imported when it is called.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midcall.captures import CapturesModule
    from midcall.captures.fetch.capture_item import CaptureItem
    from midcall.captures.packets.pcap import Packets
    from midcall.experiments.results.run_results import Results
    from midcall.experiments.tools.classified import ClassifiedFlows
    from midcall.experiments.tools.replayed import Replayed

    captures: CapturesModule
else:
    from midcall import captures

__all__ = ["captures", "classify", "read", "replay", "run"]


def classify(
    capture: str | os.PathLike[str] | CaptureItem | Packets, *, cores: int = 1
) -> ClassifiedFlows:
    """Return the flows of a capture with their verdicts, one row per bidirectional flow.

    capture: the path of a pcap or pcapng file (also gzip), an item of `midcall.captures`, or
    packets (midcall.captures.packets.pcap.Packets). cores: 1 or 2, for files. Addresses are given
    in full.

    The table has `len`, rows by position, columns by name, `to_arrow()` and `to_pandas()`. Its
    columns are those of `midcall classify`, and `frame`, the number of the flow's first packet in
    the capture, by which labels name a flow. docs/reference/data.md (table `flows`) has the unit
    and meaning of each.

    Raises CaptureError for a file that cannot be read, and ClassifierError for one of unknown link
    types.

    Examples:

    >>> import midcall
    >>> call, = midcall.captures("sample-whatsapp-audio")
    >>> flows = midcall.classify(call)
    >>> len(flows), flows.columns[:4]
    (12, ['file', 'frame', 'proto', 'src_ip'])
    >>> media = [row for row in flows if row["role"] == "media"]
    >>> media[0]["verdict"], media[0]["app"], media[0]["packets_to_verdict"]
    ('certain', 'whatsapp', 1)
    >>> flows["packets"].sum()
    np.int64(698)
    >>> flows.to_arrow().num_rows
    12
    """
    from midcall.captures.packets.pcap import Packets
    from midcall.experiments.tools.classified import classify as classified

    return classified(capture if isinstance(capture, Packets) else _file(capture), cores)


def replay(
    capture: str | os.PathLike[str] | CaptureItem,
    policy: str = "maroc-telecom/stun",
    access: str = "4g",
    *,
    seed: int = 2016,
    date: datetime.date | str | None = None,
    link: str = "captured",
    call: str | None = None,
    app: str | None = None,
    flows: tuple[str, ...] | list[str] = (),
    changed: tuple[str, ...] | list[str] = (),
    corpus: str | os.PathLike[str] | None = None,
) -> Replayed:
    """Play a capture through a policy, and through none, in virtual time; return what differs.

    capture: a file, an item of `midcall.captures`, or a name of the catalogue; policy:
    OPERATOR/HYPOTHESIS, PATH.toml/HYPOTHESIS, either with /RULE behind it, or "none"; access: 3g,
    4g, adsl, fibre or wifi; seed: of all random choices (equal seeds give equal results); date: the
    day whose rules are in force (default: the first day of the block); link: "captured", or
    "preset" for the delay, loss and rate of the access network; call: the id of one call (default:
    all); app, flows: the app and the flows of a call that no truth describes (a frame number, or
    "udp ADDRESS:PORT-ADDRESS:PORT"); changed: in what the file differs from the wire ("addresses",
    ...; docs/howto/replay.md); corpus: a folder of captures, for a name of the catalogue.

    The result has `calls` (a verdict per call), `packets` (counts), `fates` (a table: the fate of
    each sending of each packet), `document` (what `midcall replay --json` prints) and `write`.

    Raises CaptureError, TestbedError or ExperimentError for a wrong argument or file.

    Examples:

    >>> import midcall
    >>> call, = midcall.captures("sample-whatsapp-audio")
    >>> result = midcall.replay(call, "maroc-telecom/stun", access="4g", seed=1)
    >>> [(one["call"], one["verdict"], one["blocked"]) for one in result.calls]
    [('call-1', 'SETUP_BLOCKED', True)]
    >>> result.packets["dropped"] == (result.fates["fate"] == "dropped").sum()
    np.True_
    >>> midcall.replay(call, "none").calls[0]["verdict"]
    'OK'
    """
    from midcall.errors import ExperimentError
    from midcall.experiments.tools.replay import Order, play
    from midcall.experiments.tools.replayed import Replayed

    try:
        day = datetime.date.fromisoformat(date) if isinstance(date, str) else date
    except ValueError:
        raise ExperimentError(f"date {date!r}: expected a day, as 2016-03-15") from None
    folder = None if corpus is None else Path(corpus)
    words = os.fspath(_file(capture))
    order = Order(words, policy, access, day, call, link, seed, app, flows, folder, changed)
    return Replayed(order, play(order))


def run(
    spec: str | os.PathLike[str],
    *,
    corpus: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    jobs: int = 0,
    backend: str | None = None,
    cluster: str | None = None,
    force: bool = False,
    reveal: bool = False,
    quiet: bool = False,
) -> Results:
    """Carry out an experiment and return its results, as `midcall run` does.

    spec: a spec that ships (`smoke`, `morocco-2016`, ...), or the path of a TOML file; corpus: a
    folder of captures, searched first; runs: the folder in which the run's folder is made; jobs:
    parallel processes, 0 for one per core; backend: virtual, live or auto, None for the spec's;
    cluster: the address of a Dask scheduler, or "local"; force: reuse no finished cell; reveal:
    write addresses in full; quiet: show no progress.

    The results are those of `read`; `results.summary["cells"]["failed"]` counts cells that failed.
    With more than one process, call it from a file under `if __name__ == "__main__":`.

    Raises ExperimentError, CaptureError, ClassifierError or TestbedError for errors that a user can
    correct.

    Example (`smoke` takes about ten seconds):

    >>> import midcall
    >>> results = midcall.run("smoke", quiet=True)  # doctest: +SKIP
    >>> results.report  # doctest: +SKIP
    PosixPath('runs/20161104T120000Z-smoke-0123abcd/report.html')
    """
    import io

    from midcall.experiments.results.run_results import read as results_of
    from midcall.experiments.run import runner
    from midcall.experiments.spec.options import Options

    options = Options(
        None if corpus is None else Path(corpus),
        force,
        reveal,
        jobs,
        Path(runs),
        stream=io.StringIO() if quiet else None,
        backend=backend,
        cluster=cluster,
    )
    return results_of(runner.run(os.fspath(spec), options).folder)


def read(
    run: str | os.PathLike[str] = "latest", *, runs: str | os.PathLike[str] = "runs"
) -> Results:
    """Return the results of a finished run.

    run: the path of its folder, its name, the beginning of its name, or "latest"; runs: the folder
    of runs in which names are looked up.

    The results have `summary` and `provenance` (objects of JSON), `tables` (names), each table as
    an attribute or by its name, and `describe(name)` (unit and meaning of its columns). A table has
    `len`, rows, columns, `to_arrow()` and `to_pandas()`.

    Raises ExperimentError where there is no such run, or where it did not finish.

    Examples:

    >>> import midcall
    >>> results = midcall.read("latest")
    >>> blocked = [row["app"] for row in results.calls if row["blocked"]]
    >>> len(results["flows"]) == len(results.flows.to_arrow())
    True
    >>> [one.column.unit for one in results.describe("calls") if one.name == "ms_to_block"]
    ['ms']
    >>> "synthetic" in results.summary["captures"]
    True
    """
    from midcall.experiments.results.run_results import read as results_of
    from midcall.experiments.results.runs import find

    return results_of(find(Path(runs), os.fspath(run)))


def _file(capture: str | os.PathLike[str] | CaptureItem) -> str | os.PathLike[str]:
    """Return the path of a capture; raises CaptureError for an item that is not here."""
    from midcall.captures.fetch.capture_item import CaptureItem
    from midcall.errors import CaptureError

    if not isinstance(capture, CaptureItem):
        return capture
    if capture.path is None:
        raise CaptureError(f"capture {capture.name}: is not on this machine: {capture.missing}")
    return capture.path
