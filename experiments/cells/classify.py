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
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import ArrayLike, NDArray

from midcall.captures.packets.compression import without_suffix
from midcall.captures.packets.names import printable
from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.errors import ExperimentError
from midcall.suggestions import hint

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
#: Most octets of text that Arrow's 32-bit offsets can address.
LARGEST_TEXT = (1 << 31) - 1
#: Rows of the table format that are shown of one batch of files.
SHOWN = 60


class Classified(NamedTuple):
    """The rows of one file (SCHEMA), notices on the file, and its packets."""

    table: pa.Table
    notices: list[str]
    packets: int = 0


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

    stream: read instead of the file, which `path` then only names. The path `-` is the standard
    input, which one core reads.
    """
    from midcall.captures.packets.pcap import CaptureFile
    from midcall.classifier.engine import Engine
    from midcall.classifier.export import columns
    from midcall.classifier.parallel import through

    capture = CaptureFile(path, stream=stream)
    engine = Engine()
    through(engine, capture, 1 if path == STANDARD_INPUT else cores)
    notices = list(capture.notices) + link_notices(capture.path, engine.counters, capture.links)
    if not capture.packets and not notices:
        notices.append(f"{capture.path}: the capture holds 0 packets")
    file = STANDARD_INPUT if path == STANDARD_INPUT else capture.path
    return Classified(rows(columns(engine.flows(), file)), notices, capture.packets)


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


def rows(columns: Mapping[str, ArrayLike]) -> pa.Table:
    """Return columns as one Arrow table of SCHEMA; waits without a verdict (-1) become null."""
    if list(columns) != SCHEMA.names:
        raise ValueError(f"classifier columns are {list(columns)}, expected {SCHEMA.names}")
    arrays = [as_arrow(np.asarray(columns[field.name]), field) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


#: Columns of waits: -1 where no verdict was reached.
WAITS = ("packets_to_verdict", "ms_to_verdict")


def as_arrow(values: NDArray[Any], field: pa.Field) -> pa.Array:
    """Return a column as an Arrow array of its field's type.

    It is assembled from its buffers: `pyarrow.array` imports pandas where that is installed, which
    takes longer than the rest of the command's start.
    """
    known, missing = None, 0
    if field.name in WAITS:
        missing = int((values < 0).sum())
        known = pa.py_buffer(np.packbits(values >= 0, bitorder="little")) if missing else None
    if pa.types.is_string(field.type):
        texts = [text.encode() for text in values.tolist()]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        if ends[-1] > LARGEST_TEXT:
            return pa.array(values, field.type)  # in several chunks
        parts = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(texts))]
    else:
        parts = [pa.py_buffer(np.ascontiguousarray(values, field.type.to_pandas_dtype()))]
    return pa.Array.from_buffers(field.type, len(values), [known, *parts], missing)


# ---- formats


class Sink(Protocol):
    """A writer of tables, one per file, in order."""

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""

    def close(self) -> None:
        """Finish the output."""


class CsvSink:
    """CSV with one header line."""

    def __init__(self, out: BinaryIO) -> None:
        self._writer = pyarrow.csv.CSVWriter(out, SCHEMA)

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        self._writer.write_table(table)

    def close(self) -> None:
        """Finish the output."""
        self._writer.close()


class ParquetSink:
    """One Parquet file."""

    def __init__(self, out: BinaryIO) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(out, SCHEMA, compression="zstd")

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        self._writer.write_table(table)

    def close(self) -> None:
        """Finish the output."""
        self._writer.close()


class JsonSink:
    """One JSON array of objects, one object a line."""

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

    def close(self) -> None:
        """Finish the output."""
        self._out.write(b"\n]\n" if self._any else b"]\n")


def json_lines(batch: pa.RecordBatch) -> pa.Array:
    """Return each row of a record batch as the text of a JSON object, computed by column."""
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

    def __init__(self, out: BinaryIO, terminal: bool) -> None:
        self._out, self._terminal = out, terminal
        self._tables: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Write the rows of one file."""
        self._tables.append(table)

    def close(self) -> None:
        """Print the table."""
        if not self._tables:
            return
        whole = pa.concat_tables(self._tables)
        order = sorted(range(whole.num_rows), key=_weight(whole))[:SHOWN]
        text = _render(whole.take(sorted(order)).to_pylist(), self._terminal)
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
) -> bool:
    """Classify files and folders into one output; return whether every one could be read.

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
        for name in names:
            try:
                files = expand(name)
            except ExperimentError as error:
                say(str(error))
                whole = False
                continue
            for file in files:
                whole &= _one(file, sink, say, reader)
        sink.close()
    return whole


def _one(
    file: str, sink: Sink, say: Callable[[str], None], reader: Callable[[str], Classified]
) -> bool:
    from midcall.errors import CaptureError, ClassifierError

    try:
        result = reader(file)
    except (CaptureError, ClassifierError, ExperimentError) as error:
        say(str(error))
        return False
    for notice in result.notices:
        say(f"warning: {notice}")
    sink.write(result.table)
    return True
