# SPDX-License-Identifier: BSD-3-Clause
"""Quality of the calls in captures, per flow, direction and second, as tables.

The estimate reads sizes and times only. With `truth`, RTP headers are read as well, for the columns
whose names end in `_true`. With a capture of the other end (`far`), packets are matched between the
two, for the columns whose names begin with `path_`.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from midcall.captures.packets.names import printable
from midcall.captures.packets.pcap import CaptureFile, Packets
from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.classifier.call_quality import Meter
from midcall.classifier.engine import Engine
from midcall.classifier.export import PROTOCOLS, Column, Words, addresses
from midcall.classifier.quality.estimate import MEDIA_KINDS, Quality, estimate
from midcall.classifier.quality.tracks import Rows
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.verdicts import MEDIA, UNSURE
from midcall.errors import CaptureError, ClassifierError, ExperimentError
from midcall.experiments.cells.classify import (
    Classified,
    JsonSink,
    as_arrow,
    expand,
    from_numpy,
    notices_of,
    output,
    tables,
)
from midcall.experiments.measure import both_ends, rtp_truth
from midcall.experiments.measure.both_ends import PathSecond
from midcall.suggestions import hint
from midcall.testbed.assess.mos_by_second import mos_by_second

FORMATS = ("table", "csv", "json", "parquet")
BY_SUFFIX = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
FLOWS = ("media", "all")

COLUMNS = pa.schema(
    [
        ("capture", pa.string()),
        ("flow", pa.string()),
        ("direction", pa.string()),
        ("second", pa.int64()),
        ("packets", pa.int64()),
        ("bytes", pa.int64()),
        ("media", pa.string()),
        ("frame_rate", pa.float64()),
        ("frame_rate_low", pa.float64()),
        ("frame_rate_high", pa.float64()),
        ("loss", pa.float64()),
        ("gap_ms", pa.float64()),
        ("silent", pa.bool_()),
        ("jitter_ms", pa.float64()),
        ("mos", pa.float64()),
        ("confidence", pa.float64()),
    ]
)
TRUE_COLUMNS = pa.schema(
    [
        ("media_true", pa.string()),
        ("frame_rate_true", pa.float64()),
        ("loss_true", pa.float64()),
        ("gap_ms_true", pa.float64()),
        ("silent_true", pa.bool_()),
        ("jitter_ms_true", pa.float64()),
        ("mos_true", pa.float64()),
    ]
)
#: Of the path between two captures (experiments.measure.both_ends.by_second).
PATH_COLUMNS = pa.schema(
    [("path_sent", pa.int64()), ("path_loss", pa.float64()), ("path_delay_ms", pa.float64())]
)
#: Decimal places of a column.
PLACES = {
    "frame_rate": 1, "frame_rate_low": 1, "frame_rate_high": 1, "loss": 4, "gap_ms": 1,
    "jitter_ms": 2, "mos": 2, "confidence": 2, "path_loss": 4, "path_delay_ms": 1,
}  # fmt: skip
#: Rows of the table format that are shown; characters of a line that goes to no terminal.
SHOWN, WIDTH = 200, 500

Say = Callable[[str], None]
#: Seconds of the path by first packet of the flow, direction (1: from its source) and second.
PathSeconds = Mapping[tuple[int, int, int], PathSecond]


class Measured(NamedTuple):
    """The rows of one capture, and notices on it."""

    table: pa.Table
    notices: list[str]


def schema(truth: bool, far: bool = False) -> pa.Schema:
    """Return the columns of the output."""
    more = [TRUE_COLUMNS] * truth + [PATH_COLUMNS] * far
    return pa.schema([field for part in (COLUMNS, *more) for field in part])


def measure_file(
    path: str, every: bool = False, truth: bool = False, far: str | None = None
) -> Measured:
    """Measure the calls of one capture; raises CaptureError or ClassifierError.

    every: measure all UDP and TCP flows, not only those that the classifier takes for call media.
    truth: add the columns from RTP headers. far: a capture of the same calls at their other end;
    add the columns of the path between the two.
    """
    capture = CaptureFile(path)
    meter = Meter(Engine(), every)
    found = Truth() if truth else None
    if found is None:
        meter.through(capture)
    else:
        for packets in capture.batches():
            found.add(packets, meter.feed(packets), meter)
    name = path if path == STANDARD_INPUT else capture.path
    between = None if far is None else both_ends.by_second(Path(path), Path(far))
    table = table_of(meter, name, every, found, between)
    notices = all_notices(capture, meter)
    if far is not None and not between:
        fewest = both_ends.FEWEST
        notices.append(f"{far}: fewer than {fewest} packets of a direction are in {path} too")
    return Measured(table, notices)


def all_notices(capture: CaptureFile, meter: Meter) -> list[str]:
    """Return the notices on a capture that a meter has read and whose rows were asked for."""
    notices = notices_of(capture, meter.engine)
    if meter.refused:
        notices.append(f"{capture.path}: too many flows at the same time, some were not measured")
    return notices


def classify_file(path: str) -> Classified:
    """Classify every flow of one capture and measure its calls in the same pass.

    Raises CaptureError or ClassifierError.
    """
    capture = CaptureFile(path)
    meter = Meter(Engine())
    meter.through(capture)
    flows = meter.engine.flows()
    quality = table_of_rows(flows, meter.rows(), meter.start, capture.path)
    notices = all_notices(capture, meter)
    return Classified(partial(tables, flows, capture.path), notices, capture.packets, quality)


def table_of(
    meter: Meter,
    capture: str,
    every: bool = False,
    truth: Truth | None = None,
    path: PathSeconds | None = None,
) -> pa.Table:
    """Return the rows of what a meter measured so far (`COLUMNS`), of one capture.

    Any program that feeds its packets to a Meter instead of an Engine gets the quality of the calls
    in the same pass from here.
    """
    flows, rows = meter.engine.flows(), meter.rows()
    return table_of_rows(flows, rows, meter.start, capture, every, truth, path)


def table_of_rows(
    flows: Records,
    rows: Rows,
    start: int,
    capture: str,
    every: bool = False,
    truth: Truth | None = None,
    path: PathSeconds | None = None,
) -> pa.Table:
    """Return the columns of ROW[n] of flows, FLOW[n]; start: the time of second 0, in ns."""
    result = estimate(rows, None if every else media_flows(flows))
    measured = {name: getattr(result, name) for name in COLUMNS.names if hasattr(result, name)}
    columns: dict[str, Column] = {
        **measured,
        "capture": Words(np.zeros(len(result.flow), np.int32), (capture,)),
        "flow": names(flows, result.flow),
        "direction": Words(result.up.astype(np.int32), ("down", "up")),
        "bytes": result.octets,
        "media": Words(result.media.astype(np.int32), MEDIA_KINDS),
        "mos": mos_by_second(result.loss, result.jitter_ms),
    }
    if truth is not None:
        columns |= truth.columns(result.flow, result.up, result.second, start)
    if path is not None:
        columns |= path_columns(path, result)
    fields = schema(truth is not None, path is not None)
    arrays = [as_column(columns[field.name], field) for field in fields]
    return pa.Table.from_arrays(arrays, schema=fields)


def path_columns(path: PathSeconds, rows: Quality) -> dict[str, NDArray[Any]]:
    """Return the columns of the path between two captures; empty where nothing was sent."""
    keys = zip(rows.flow.tolist(), rows.up.tolist(), rows.second.tolist(), strict=True)
    own = [path.get(key) for key in keys]
    return {
        "path_sent": np.array([np.nan if one is None else one.sent for one in own]),
        "path_loss": np.array([np.nan if one is None else one.loss for one in own]),
        "path_delay_ms": np.array(
            [np.nan if one is None or one.delay_ms is None else one.delay_ms for one in own]
        ),
    }


def media_flows(flows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the first packets of the flows that the classifier takes for call media."""
    media = (flows["role"] == MEDIA) & (flows["verdict"] >= UNSURE)
    return np.asarray(flows["first_record"][media], np.int64)


def names(flows: NDArray[np.void], first: NDArray[np.int64]) -> Words:
    """Return the names of flows by their first packets: "udp A:PORT-B:PORT" (`explain --flow`)."""
    numbers, codes = np.unique(first, return_inverse=True)
    order = np.argsort(flows["first_record"])
    wanted = flows[order[np.searchsorted(flows["first_record"], numbers, sorter=order)]]
    wrap = {4: "{}:{}", 6: "[{}]:{}"}
    ends = [
        [
            wrap[ipaddress.ip_address(address).version].format(address, port)
            for address, port in zip(texts, wanted[f"{end}_port"].tolist(), strict=True)
        ]
        for end in ("source", "target")
        for texts in [addresses(wanted[end], wanted["version"]).tolist()]
    ]
    words = [
        f"{PROTOCOLS.get(proto, f'ip-{proto}')} {source}-{target}"
        for proto, source, target in zip(wanted["proto"].tolist(), *ends, strict=True)
    ]
    return Words(codes.astype(np.int32), words)


def as_column(values: Column, field: pa.Field) -> pa.Array:
    """Return a column as an Arrow array of its field's type; NaN and None become null."""
    if not isinstance(values, np.ndarray):
        return as_arrow(values, field)
    if pa.types.is_floating(field.type):
        places = PLACES[field.name.removesuffix("_true")]
        values = np.round(np.asarray(values, np.float64), places)
    known = ~np.isnan(values) if np.issubdtype(values.dtype, np.floating) else None
    return from_numpy(np.nan_to_num(values), field.type, known)


class Truth:
    """The RTP headers of a capture's packets, batch by batch, and the columns from them."""

    def __init__(self) -> None:
        self.fields: list[NDArray[np.int64]] = [rtp_truth.NO_HEADERS]

    def add(self, packets: Packets, numbers: NDArray[np.int64], meter: Meter) -> None:
        """Read the headers of a batch; numbers: the flow of each packet."""
        flows = meter.engine.tables.flows["first_record"][np.maximum(numbers, 0)]
        flow = np.where(numbers >= 0, flows, -1)
        self.fields.append(rtp_truth.headers(packets, flow, meter.ups))

    def columns(
        self,
        flow: NDArray[np.int64],
        up: NDArray[np.int64],
        second: NDArray[np.int64],
        start: int,
    ) -> dict[str, Column]:
        """Return the true columns of rows (first packet of the flow, direction, second)."""
        count = len(flow)
        media = np.full(count, -1, np.int32)
        out = {name: np.full(count, np.nan) for name in TRUE_COLUMNS.names}
        keys = zip(flow.tolist(), up.tolist(), second.tolist(), strict=True)
        place = {key: row for row, key in enumerate(keys)}
        for number, way, heard in rtp_truth.directions(np.concatenate(self.fields)):
            for when, true in rtp_truth.seconds(heard, start).items():
                row = place.get((number, way, when))
                if row is None:
                    continue
                if true.media is not None:
                    media[row] = MEDIA_KINDS.index(true.media)
                for name, value in true._asdict().items():
                    if name != "media" and value is not None:
                        out[f"{name}_true"][row] = value
        spoken = ~np.isnan(out["silent_true"])
        score = mos_by_second(out["loss_true"], out["jitter_ms_true"])
        kinds, mos = Words(media, MEDIA_KINDS), np.where(spoken, score, np.nan)
        return {**out, "media_true": kinds, "mos_true": mos}


# ---- formats


def format_of(wanted: str | None, out: str | None) -> str:
    """Return the format asked for, else that of the output's suffix, else "table".

    Raises ExperimentError for an unknown format.
    """
    if wanted is None:
        suffix = "." + (out or "").rpartition(".")[2].lower()
        return BY_SUFFIX.get(suffix, "table")
    if wanted not in FORMATS:
        raise ExperimentError(f"unknown format {wanted} ({hint(wanted, FORMATS)})")
    return wanted


class ArrowSink:
    """CSV with one header line, or one Parquet file."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        """Write the rows of one capture."""
        self._writer.write_table(table)

    def close(self) -> None:
        """Finish the output."""
        self._writer.close()


class TextSink:
    """A table for people, up to SHOWN rows."""

    def __init__(self, out: BinaryIO, terminal: bool) -> None:
        self._out, self._terminal = out, terminal
        self._tables: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Keep the rows of one capture."""
        self._tables.append(table)

    def close(self) -> None:
        """Print the table."""
        if not self._tables:
            return
        whole = pa.concat_tables(self._tables)
        text = render(whole.slice(0, SHOWN), self._terminal)
        rest = whole.num_rows - SHOWN
        if rest > 0:
            text += f"{rest} more seconds are not shown; --format csv gives every one\n"
        self._out.write(text.encode())


def render(table: pa.Table, terminal: bool) -> str:
    """Return rows as aligned text; columns that are the same for every row are left out."""
    from rich.console import Console
    from rich.table import Table

    many = len(set(table.column("capture").to_pylist())) > 1
    shown = [name for name in table.schema.names if many or name != "capture"]
    page = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        number = not pa.types.is_string(table.schema.field(name).type)
        page.add_column(name, justify="right" if number else "left", no_wrap=True)
    columns = [table.column(name).to_pylist() for name in shown]
    for values in zip(*columns, strict=True):
        page.add_row(*(cell(value) for value in values))
    width = None if terminal else WIDTH
    console = Console(
        width=width, force_terminal=terminal, no_color=not terminal, highlight=False, markup=False
    )
    with console.capture() as captured:
        console.print(page)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def cell(value: object) -> str:
    """Return a value as text; an unknown one is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value) if isinstance(value, str) else f"{value:g}"


def sink(form: str, out: BinaryIO, fields: pa.Schema, terminal: bool) -> Any:
    """Return the writer of a format over a binary stream."""
    if form == "csv":
        return ArrowSink(pyarrow.csv.CSVWriter(out, fields))
    if form == "parquet":
        return ArrowSink(pyarrow.parquet.ParquetWriter(out, fields, compression="zstd"))
    return JsonSink(out) if form == "json" else TextSink(out, terminal)


class Writer:
    """The output of one or more captures."""

    def __init__(self, to: Any, flush: Callable[[], None]) -> None:
        self.write: Callable[[pa.Table], None] = to.write
        self.flush = flush
        self._live = Meter(Engine())

    def meter(self, engine: Engine) -> Meter:
        """Return a meter over an engine of the standard input, for `ended`."""
        self._live = Meter(engine)
        return self._live

    def ended(self, flows: Records) -> None:
        """Write the rows of flows, FLOW[n], that the engine of the standard input has removed."""
        rows = self._live.take(flows)
        self.write(table_of_rows(flows, rows, self._live.start, STANDARD_INPUT))


@contextmanager
def writer(
    form: str | None, out: str | None, truth: bool = False, far: bool = False
) -> Iterator[Writer]:
    """Open the output; raises ExperimentError for an unknown format."""
    form = format_of(form, out)
    terminal = out in (None, "-") and sys.stdout.isatty()
    if form == "parquet" and terminal:
        raise ExperimentError("parquet is not for a terminal: give a file with -o OUT")
    with output(out) as handle:
        to = sink(form, handle, schema(truth, far), terminal)
        yield Writer(to, handle.flush)
        to.close()


def write(
    captures: Sequence[str],
    form: str | None,
    out: str | None,
    flows: str,
    truth: bool,
    say: Say,
    far: str | None = None,
) -> bool:
    """Measure captures and write their rows; returns whether all of them could be read.

    far: a capture of the other end, None: none. Of the standard input, rows are written as it is
    read (without `truth`). A capture that cannot be read is reported, and the
    others are measured. Raises ExperimentError for an unknown format or choice of flows, for an
    output that cannot be written, and where `far` does not go with the captures.
    """
    if flows not in FLOWS:
        raise ExperimentError(f"--flows {flows}: unknown ({hint(flows, FLOWS)})")
    files = [file for name in captures for file in expand(name)]
    if far is not None and (len(files) != 1 or STANDARD_INPUT in (files[0], far)):
        raise ExperimentError(f"--far {far}: goes with one capture file")
    complete = True
    with writer(form, out, truth, far is not None) as target:
        for file in files:
            try:
                notices = write_file(file, flows == "all", truth, far, target)
            except (CaptureError, ClassifierError) as error:
                say(str(error))
                complete = False
                continue
            for notice in notices:
                say(f"warning: {notice}")
    return complete


def write_file(file: str, every: bool, truth: bool, far: str | None, target: Writer) -> list[str]:
    """Measure one capture and write its rows; returns the notices on it."""
    if file == STANDARD_INPUT and not truth:
        from midcall.experiments.tools.quality_live import follow

        return follow(target, every)
    measured = measure_file(file, every, truth, far)
    target.write(measured.table)
    return measured.notices
