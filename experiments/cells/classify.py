# SPDX-License-Identifier: BSD-3-Clause
"""Classification of files: one row per bidirectional flow of any capture, in several formats.

Rows stay Arrow columns from the engine to the file: a million flows take seconds, not minutes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase, RawIOBase
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from midcall.captures.packets.compression import without_suffix
from midcall.captures.packets.names import printable
from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.errors import ExperimentError
from midcall.suggestions import hint

if TYPE_CHECKING:
    from midcall.captures.packets.pcap import CaptureFile
    from midcall.classifier.call_quality import Meter
    from midcall.classifier.engine import Engine
    from midcall.classifier.export import Column, Texts

FORMATS = ("table", "csv", "json", "parquet", "pcapng")
#: The format of an output by its suffix; a name without a suffix gets the table.
BY_SUFFIX = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pcapng": "pcapng",
             ".txt": "table", ".table": "table", "": "table"}  # fmt: skip

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("proto", pa.string()),
        ("src_ip", pa.string()),
        ("src_port", pa.int64()),
        ("dst_ip", pa.string()),
        ("dst_port", pa.int64()),
        ("packets", pa.int64()),
        ("bytes", pa.int64()),
        ("first_ts", pa.float64()),
        ("last_ts", pa.float64()),
        ("verdict", pa.string()),
        ("app", pa.string()),
        ("family", pa.string()),
        ("role", pa.string()),
        ("confidence", pa.float64()),
        ("packets_to_verdict", pa.int64()),
        ("ms_to_verdict", pa.float64()),
        ("evidence", pa.string()),
    ]
)

#: SCHEMA with coded texts: a number per row, and each distinct text once.
CODED_SCHEMA = pa.schema(
    [
        (field.name, pa.dictionary(pa.int32(), pa.string()))
        if field.type == pa.string() and not field.name.endswith("_ip")
        else field
        for field in SCHEMA
    ]
)
#: Rows that are made and written at once.
CHUNK = 1 << 16
#: Nanoseconds without a packet after which a flow of the standard input has ended: a NAT must keep
#: a UDP flow that long (RFC 4787 REQ-5). The largest number of such flows that are followed.
IDLE, LIVE_FLOWS = 120_000_000_000, 1 << 20
TICK = 2_000_000_000
#: Bytes of captures from which several processes are started.
WORTH = 32 << 20

SUFFIXES = (".pcap", ".pcapng", ".cap", ".dmp")
MAGICS = (
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\xc3\xd4",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
    b"\x34\xcd\xb2\xa1",
    b"\xa1\xb2\xcd\x34",
    b"\x0a\x0d\x0d\x0a",
)
#: Rows of the table format that are shown of one batch of files.
SHOWN = 60


class Classified(NamedTuple):
    """The rows of one file, notices on the file, and the number of its packets.

    parts: makes the rows as tables of at most CHUNK rows each, in order; with True, texts that
    occur more than once are coded (CODED_SCHEMA), else they are plain (SCHEMA). quality: the rows
    of experiments.tools.quality where they were measured in the same pass.
    """

    parts: Callable[[bool], Iterator[pa.Table]]
    notices: list[str]
    packets: int = 0
    quality: pa.Table | None = None

    @property
    def table(self) -> pa.Table:
        """Return all rows as one table of SCHEMA."""
        return pa.concat_tables([SCHEMA.empty_table(), *self.parts(False)])


class Measures(Protocol):
    """Where the quality of calls goes (experiments.tools.quality.Writer)."""

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""

    def meter(self, engine: Engine) -> Meter:
        """Return a meter over an engine of a stream that is classified live."""

    def ended(self, flows: NDArray[Any]) -> None:
        """Write the rows of flows of that stream, FLOW[n], that have ended."""


class ShownFlow(TypedDict):
    """The columns of a row that the table format shows."""

    file: str
    proto: str
    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int
    packets: int
    bytes: int
    verdict: str
    app: str
    role: str
    evidence: str | None


# ---- files


def is_url(name: str) -> bool:
    """Return whether a name is a URL."""
    return "://" in name


def expand(name: str) -> list[str]:
    """Return the files a name stands for: itself, or the captures in a folder, sorted.

    `-` is the standard input.

    Raises ExperimentError for a folder without captures. A file is not checked; its reader does.
    """
    folder = Path(name)
    if name == STANDARD_INPUT or not folder.is_dir():
        return [name]
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file() and _is_capture(path))
    if not files:
        raise ExperimentError(
            f"{printable(name)}: the folder holds no captures, expected pcap or pcapng files in it"
        )
    return files


def _is_capture(path: Path) -> bool:
    """Return whether a file in a folder is a capture by its name, else by its magic number."""
    if without_suffix(path.name.lower()).endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as handle:
            return handle.read(4) in MAGICS
    except OSError:
        return False


def classify_file(
    path: str, cores: int = 1, stream: RawIOBase | BufferedIOBase | None = None
) -> Classified:
    """Classify every flow of one capture; raises CaptureError or ClassifierError.

    stream: read instead of the file, which `path` then only names.
    """
    from midcall.captures.packets.pcap import CaptureFile
    from midcall.classifier.engine import Engine
    from midcall.classifier.parallel import through

    capture = CaptureFile(path, stream=stream)
    engine = Engine()
    through(engine, capture, cores)
    return Classified(
        partial(tables, engine.flows(), capture.path), notices_of(capture, engine), capture.packets
    )


def tables(flows: NDArray[Any], file: str, coded: bool) -> Iterator[pa.Table]:
    """Yield the rows of FLOW[n] of a file as tables of at most CHUNK rows."""
    from midcall.classifier.export import columns

    for start in range(0, len(flows), CHUNK):
        yield rows(columns(flows[start : start + CHUNK], file), coded)


def classify_live(
    sink: Sink, out: BinaryIO, say: Callable[[str], None], quality: Measures | None = None
) -> None:
    """Classify the standard input; write the rows of each flow when it has ended.

    A flow has ended when IDLE passed on the capture's clock since its last packet, or with the
    input. The clock is looked at when it enters a new TICK, so that rows do not depend on how the
    input arrives. A packet that comes later begins a new flow. quality: where the quality of each
    call goes when its flow has ended. Raises CaptureError or ClassifierError.
    """
    from midcall.captures.packets.pcap import CaptureFile
    from midcall.classifier.engine import Engine

    capture = CaptureFile(STANDARD_INPUT)
    engine = Engine(max_flows=LIVE_FLOWS)
    feed = engine.feed if quality is None else quality.meter(engine).feed
    latest = 0

    def write(flows: NDArray[Any]) -> None:
        for table in tables(flows, STANDARD_INPUT, sink.coded):
            sink.write(table)
        if len(flows):
            sink.flush()
            out.flush()
            if quality is not None:
                quality.ended(flows)

    for packets in capture.batches():
        clock = np.maximum.accumulate(np.maximum(packets.time, latest * TICK)) // TICK
        changes = np.flatnonzero(np.diff(clock, prepend=latest))
        for start, end in pairwise([0, *changes.tolist(), packets.total]):
            if start < end:
                if clock[start] > latest:
                    latest = int(clock[start])
                    write(engine.ended(latest * TICK, IDLE))
                feed(packets.take(slice(start, end)))
    for notice in notices_of(capture, engine):
        say(f"warning: {notice}")
    write(engine.flows())


def notices_of(capture: CaptureFile, engine: Engine) -> list[str]:
    """Return the notices on a capture that an engine has read to its end.

    Raises ClassifierError as `link_notices` does.
    """
    notices = list(capture.notices)
    notices += link_notices(capture.path, engine.counters, capture.links)
    if not capture.packets and not notices:
        notices.append(f"{capture.path}: the capture holds 0 packets")
    return notices


def link_notices(path: str, counters: Mapping[str, int], links: set[int]) -> list[str]:
    """Return a notice on packets of unknown link types.

    Raises ClassifierError where the file has only such packets.
    """
    from midcall.classifier.path.decode import LINKS, WRAPPING
    from midcall.errors import ClassifierError

    unknown = counters["unknown_link"]
    if not unknown:
        return []
    words = [str(link) for link in sorted(links - LINKS.keys())]
    if not words:  # the header is not what the link type says, or states an unknown one
        words = [f"behind {link} ({LINKS[link]})" for link in WRAPPING if link in links]
    odd = ", ".join(words)
    if unknown == counters["packets"]:
        known = ", ".join(f"{number} ({name})" for number, name in LINKS.items())
        raise ClassifierError(f"{path}: unknown link type {odd}, expected one of {known}")
    return [f"{path}: {unknown} packets have the unknown link type {odd} and are left out"]


def rows(columns: Mapping[str, Column], coded: bool = False) -> pa.Table:
    """Return columns as one Arrow table; waits without a verdict (-1) become null.

    coded: False for SCHEMA, True for CODED_SCHEMA.
    """
    if list(columns) != SCHEMA.names:
        raise ValueError(f"classifier columns are {list(columns)}, expected {SCHEMA.names}")
    schema = CODED_SCHEMA if coded else SCHEMA
    return pa.Table.from_arrays(
        [as_arrow(columns[field.name], field) for field in schema], schema=schema
    )


#: Columns of waits: -1 where no verdict was reached.
WAITS = ("packets_to_verdict", "ms_to_verdict")


def as_arrow(values: Column, field: pa.Field) -> pa.Array:
    """Return a column as an Arrow array of its field's type."""
    from midcall.classifier.export import Texts, Words, spelled

    if isinstance(values, Words):
        known = values.codes >= 0
        if pa.types.is_dictionary(field.type):
            distinct = Words(np.arange(len(values.words), dtype=np.int32), values.words)
            codes = from_numpy(values.codes, pa.int32(), known)
            return pa.DictionaryArray.from_arrays(codes, texts(spelled(distinct)))
        return texts(spelled(values), known)
    if isinstance(values, Texts):
        return texts(values)
    return from_numpy(values, field.type, values >= 0 if field.name in WAITS else None)


def from_numpy(
    values: np.ndarray[Any, Any], kind: pa.DataType, known: np.ndarray[Any, Any] | None = None
) -> pa.Array:
    """Return an array of numbers or truth values as an Arrow array; known: False for a null.

    It is assembled from its buffers: `pyarrow.array` imports pandas where that is installed, which
    takes longer than the rest of the command's start.
    """
    if pa.types.is_boolean(kind):
        data = np.packbits(values.astype(bool), bitorder="little")
    else:
        data = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [validity(known), pa.py_buffer(data)])


def texts(values: Texts, known: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """Return texts as an Arrow array, as `from_numpy` does."""
    ends = values.ends.astype(np.int32)
    parts = [validity(known), pa.py_buffer(ends), pa.py_buffer(values.data)]
    return pa.Array.from_buffers(pa.string(), len(ends) - 1, parts)


def validity(known: np.ndarray[Any, Any] | None) -> pa.Buffer | None:
    """Return Arrow's bitmap of the rows that are no nulls; None if there are no nulls."""
    if known is None or known.all():
        return None
    return pa.py_buffer(np.packbits(known, bitorder="little"))


# ---- formats


class Sink(Protocol):
    """A writer of tables, in order. coded: whether it takes those of CODED_SCHEMA."""

    coded: bool

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""

    def flush(self) -> None:
        """Write what is not written yet."""

    def close(self) -> None:
        """Finish the output."""


class CsvSink:
    """CSV with one header line."""

    coded = False

    def __init__(self, out: BinaryIO) -> None:
        import pyarrow.csv

        self._writer = pyarrow.csv.CSVWriter(out, SCHEMA)

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        self._writer.write_table(table)

    def flush(self) -> None:
        """Do nothing: each table is written at once."""

    def close(self) -> None:
        """Finish the output."""
        self._writer.close()


class ParquetSink:
    """One Parquet file, whose row groups have at least CHUNK rows but for the last one."""

    coded = True

    def __init__(self, out: BinaryIO) -> None:
        import pyarrow.parquet

        # Without Arrow's own schema in it, readers see plain texts, not their codes. Dictionaries
        # of numbers and of addresses would take time and make the file larger.
        coded = [one.name for one in CODED_SCHEMA if pa.types.is_dictionary(one.type)]
        self._writer = pyarrow.parquet.ParquetWriter(
            out, CODED_SCHEMA, compression="zstd", store_schema=False, use_dictionary=coded
        )
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file, or keep them until a row group is full."""
        self._waiting.append(table)
        if sum(one.num_rows for one in self._waiting) >= CHUNK:
            self._write_group()

    def _write_group(self) -> None:
        group, self._waiting = pa.concat_tables(self._waiting), []
        self._writer.write_table(group.unify_dictionaries())

    def flush(self) -> None:
        """Do nothing: a file that is not finished has no reader."""

    def close(self) -> None:
        """Finish the output."""
        if self._waiting:
            self._write_group()
        self._writer.close()


class JsonSink:
    """One JSON array of objects, one object a line."""

    coded = False

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._any = out, False
        out.write(b"[")

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        for batch in table.to_batches(max_chunksize=1 << 16):
            if not batch.num_rows:
                continue
            lines = json_lines(batch).to_pylist()
            self._out.write(b",\n" if self._any else b"\n")
            self._out.write(",\n".join(lines).encode())
            self._any = True

    def flush(self) -> None:
        """Do nothing: each table is written at once."""

    def close(self) -> None:
        """Finish the output."""
        self._out.write(b"\n]\n" if self._any else b"]\n")


def json_lines(batch: pa.RecordBatch) -> pa.Array:
    """Return each row of a record batch as the text of a JSON object, computed by column."""
    import pyarrow.compute

    parts: list[pa.Array] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        opening = "{" if not parts else ", "
        text = pyarrow.compute.fill_null(_json_values(column), "null")
        parts.append(pyarrow.compute.binary_join_element_wise(f'{opening}"{name}": ', text, ""))
    return pyarrow.compute.binary_join_element_wise(*parts, "}", "")


def _json_values(column: pa.Array) -> pa.Array:
    """Return a column as JSON text; each distinct string is escaped once."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    coded = column.dictionary_encode()
    words = [json.dumps(word, ensure_ascii=False) for word in coded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(coded.indices)


class TableSink:
    """A table for people: calls first, then the flows with most packets, up to SHOWN rows."""

    coded = False

    def __init__(self, out: BinaryIO, terminal: bool) -> None:
        self._out, self._terminal = out, terminal
        self._tables: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        self._tables.append(table)

    def flush(self) -> None:
        """Print the rows that came since the last time, as a table of their own."""
        self.close()
        self._tables = []

    def close(self) -> None:
        """Print the table."""
        if not sum(table.num_rows for table in self._tables):
            return
        whole = pa.concat_tables(self._tables)
        order = sorted(range(whole.num_rows), key=_weight(whole))[:SHOWN]
        shown = [whole.slice(row, 1).to_pylist()[0] for row in sorted(order)]
        text = _render(shown, self._terminal)
        rest = whole.num_rows - len(order)
        if rest > 0:
            text += f"{rest} more flows are not shown; --format csv gives every one\n"
        self._out.write(text.encode())


def _weight(table: pa.Table) -> Callable[[int], tuple[int, int, int]]:
    """Return a sort key of rows: certain first, then unsure, then many packets."""
    strength = {"certain": 0, "unsure": 1}
    ranks = [strength.get(word, 2) for word in table.column("verdict").to_pylist()]
    packets = table.column("packets").to_pylist()
    return lambda row: (ranks[row], -packets[row], row)


_SHADES = {"certain": "bold green", "unsure": "yellow"}


def _render(flows: Sequence[ShownFlow], terminal: bool) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    many = len({flow["file"] for flow in flows}) > 1
    heads = ["file"] * many + ["flow", "packets", "bytes", "verdict", "app", "role", "evidence"]
    for head in heads:
        table.add_column(head, justify="right" if head in ("packets", "bytes") else "left")
    for flow in flows:
        cells = [os.path.basename(flow["file"])] * many
        cells += [_ends(flow), f"{flow['packets']:,}", f"{flow['bytes']:,}", flow["verdict"]]
        cells += [flow["app"], flow["role"], flow["evidence"] or ""]
        table.add_row(*cells, style=_SHADES.get(flow["verdict"]))
    console = Console(
        width=None if terminal else 200,
        force_terminal=terminal,
        no_color=not terminal,
        highlight=False,
        markup=False,
    )
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _ends(flow: ShownFlow) -> str:
    wrap = "[{}]:{}" if ":" in str(flow["src_ip"]) else "{}:{}"
    source = wrap.format(flow["src_ip"], flow["src_port"])
    return f"{flow['proto']} {source} > {wrap.format(flow['dst_ip'], flow['dst_port'])}"


# ---- the command


def format_of(wanted: str | None, out: str | None) -> str:
    """Return the format asked for, else that of the output's suffix, "table" for none.

    Raises ExperimentError for an unknown format or suffix.
    """
    if wanted is not None:
        if wanted not in FORMATS:
            raise ExperimentError(f"unknown format {wanted} ({hint(wanted, FORMATS)})")
        return wanted
    suffix = Path(out or "").suffix
    form = BY_SUFFIX.get(suffix.lower())
    if form is None:
        known = ", ".join(word for word in BY_SUFFIX if word)
        raise ExperimentError(
            f"{printable(out or '')}: no format has the suffix {printable(suffix)}, expected "
            f"one of {known}; --format gives one for any name"
        )
    return form


def open_sink(form: str, out: BinaryIO, terminal: bool) -> Sink:
    """Return the sink of a format over a binary stream."""
    if form == "csv":
        return CsvSink(out)
    if form == "parquet":
        return ParquetSink(out)
    if form == "json":
        return JsonSink(out)
    return TableSink(out, terminal)


@contextmanager
def output(name: str | None) -> Iterator[BinaryIO]:
    """Open the output: "-" or None is the standard output; a file appears whole or not at all.

    Raises ExperimentError where it cannot be written.
    """
    if name is None or name == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    target = Path(name)
    special = target.exists() and not target.is_file()
    temporary = target if special else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        handle = temporary.open("wb")
    except OSError as error:
        raise ExperimentError(f"{printable(name)}: cannot be written ({error.strerror})") from error
    try:
        with handle:
            yield handle
        if not special:
            os.replace(temporary, target)
    finally:
        if not special:
            temporary.unlink(missing_ok=True)


def classify(
    names: Sequence[str],
    form: str | None,
    out: str | None,
    say: Callable[[str], None],
    reader: Callable[[str], Classified] = classify_file,
    jobs: int = 1,
    quality: Measures | None = None,
) -> bool:
    """Classify files and folders into one output; return whether every one could be read.

    reader: classifies one file; jobs: processes that do so at once, without effect on the rows;
    quality: where the quality of calls goes, which `reader` then measures as well.

    say: called with one sentence per notice and per file that failed. A failed file does not stop
    the others. Raises ExperimentError for an unknown format, or Parquet on a terminal.
    """
    whole = True
    form = format_of(form, out)
    if names.count(STANDARD_INPUT) > 1:
        raise ExperimentError("-: the standard input is named more than once; name it once")
    terminal = out in (None, "-") and sys.stdout.isatty()
    if form == "parquet" and terminal:
        raise ExperimentError("parquet is not for a terminal: give a file with -o OUT")
    with output(out) as stream:
        sink = open_sink(form, stream, terminal)
        files: list[str] = []
        for name in names:
            try:
                files += expand(name)
            except ExperimentError as error:
                say(str(error))
                whole = False
        if jobs > 1 and worth_processes(files):
            whole &= _at_once(files, sink, say, reader, jobs, quality)
        else:
            for file in files:
                whole &= _one(file, sink, stream, say, reader, quality)
        sink.close()
    return whole


def worth_processes(files: Sequence[str]) -> bool:
    """Return whether files are so large that starting processes for them saves time."""
    if len(files) < 2 or STANDARD_INPUT in files:
        return False
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file)) >= WORTH


class Outcome(NamedTuple):
    """What a worker process returns for one file; error: one sentence, "" for none."""

    tables: list[pa.Table]
    notices: list[str]
    error: str
    quality: pa.Table | None = None


def _outcome(reader: Callable[[str], Classified], coded: bool, file: str) -> Outcome:
    from midcall.errors import CaptureError, ClassifierError

    try:
        result = reader(file)
        return Outcome(list(result.parts(coded)), result.notices, "", result.quality)
    except (CaptureError, ClassifierError, ExperimentError) as error:
        return Outcome([], [], str(error))


def _at_once(
    files: Sequence[str],
    sink: Sink,
    say: Callable[[str], None],
    reader: Callable[[str], Classified],
    jobs: int,
    quality: Measures | None,
) -> bool:
    from midcall.experiments.jobs.workers import run_in_background

    whole = True
    work = partial(_outcome, reader, sink.coded)
    with run_in_background(work, files, min(jobs, len(files))) as outcomes:
        for outcome in outcomes:
            for line in [outcome.error] if outcome.error else outcome.notices:
                say(line if outcome.error else f"warning: {line}")
            for table in outcome.tables:
                sink.write(table)
            if quality is not None and outcome.quality is not None:
                quality.write(outcome.quality)
            whole &= not outcome.error
    return whole


def _one(
    file: str,
    sink: Sink,
    out: BinaryIO,
    say: Callable[[str], None],
    reader: Callable[[str], Classified],
    quality: Measures | None,
) -> bool:
    from midcall.errors import CaptureError, ClassifierError

    try:
        if file == STANDARD_INPUT:
            classify_live(sink, out, say, quality)
            return True
        result = reader(file)
    except (CaptureError, ClassifierError, ExperimentError) as error:
        say(str(error))
        return False
    for notice in result.notices:
        say(f"warning: {notice}")
    for table in result.parts(sink.coded):
        sink.write(table)
    if quality is not None and result.quality is not None:
        quality.write(result.quality)
    return True
