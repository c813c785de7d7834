# SPDX-License-Identifier: BSD-3-Clause
"""Classification of many captures into a folder of Parquet, locally or on a cluster.

OUT/flows/part-NNNNN.parquet   a row per flow, as in `midcall classify`
OUT/files/part-NNNNN.parquet   a row per capture: its size, packets, flows, and errors
OUT/dataset.json               the inputs and the code that made it

Captures and OUT are paths or URLs (s3://, gs://, http://, ...). A part has captures that are
adjacent by name, and its bytes depend on them alone: not on the machine, nor on the time. The
second file of a part marks it as complete; complete parts are not made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from midcall.captures.packets.compression import without_suffix
from midcall.captures.packets.names import printable
from midcall.errors import ExperimentError, describe
from midcall.experiments.cells.classify import SCHEMA, SUFFIXES, classify_file, expand, is_url
from midcall.experiments.jobs.progress import Progress
from midcall.experiments.results.provenance import CELL_PACKAGES, code_digest

#: Largest number of captures of a part, and of their bytes (one capture may be larger).
FILES, BYTES = 64, 256 << 20

FILE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("bytes", pa.int64()),
        ("packets", pa.int64()),
        ("flows", pa.int64()),
        ("calls", pa.int64()),  # flows that certainly belong to a call
        ("notices", pa.string()),
        ("error", pa.string()),
    ]
)


class Source(NamedTuple):
    """A capture: its path or URL, and its size in bytes."""

    name: str
    size: int


class Part(NamedTuple):
    """A unit of work: captures that become one part of a dataset."""

    number: int
    sources: tuple[Source, ...]
    out: str
    cores: int

    def path(self, table: str) -> str:
        """Return the path of this part of a table."""
        return f"{self.out}/{table}/part-{self.number:05d}.parquet"


class Made(NamedTuple):
    """The result of a dataset: totals of its files, and its failures."""

    files: int
    size: int
    packets: int
    flows: int
    calls: int
    unread: int  # files that could not be read
    failed: list[str]  # parts that could not be made, with the reason


# ---- captures


def filesystem(name: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it. Raises ExperimentError."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(name)
    except ImportError as error:
        missing = str(error).rstrip(".") or "fsspec is not installed"
        raise ExperimentError(
            f"{name}: {missing}; URLs need pip install 'midcall[dask]' and the package of their "
            "file system (s3fs, gcsfs, adlfs, aiohttp)"
        ) from error
    except ValueError as error:
        raise ExperimentError(f"{name}: {error}") from error
    return system, path


def sources(names: Sequence[str]) -> list[Source]:
    """Return the captures that names refer to, sorted and without duplicates. Raises
    ExperimentError."""
    sizes: dict[str, int] = {}
    for name in names:
        sizes |= _remote(name) if is_url(name) else _local(name)
    return [Source(name, size) for name, size in sorted(sizes.items())]


def _local(name: str) -> dict[str, int]:
    sizes = {}
    for file in expand(name):
        try:
            sizes[os.path.abspath(file)] = os.path.getsize(file)
        except OSError as error:
            raise ExperimentError(
                f"{printable(file)}: cannot be read ({error.strerror})"
            ) from error
    return sizes


def _remote(name: str) -> dict[str, int]:
    system, path = filesystem(name)
    try:
        if not system.isdir(path):
            return {system.unstrip_protocol(path): int(system.info(path)["size"] or 0)}
        entries = system.find(path, detail=True)
    except FileNotFoundError as error:
        raise ExperimentError(
            f"{name}: nothing is there, expected a capture or a folder"
        ) from error
    except Exception as error:  # each file system has errors of its own
        raise ExperimentError(f"{name}: cannot be listed ({error})") from error
    sizes = {
        system.unstrip_protocol(one): int(entry["size"] or 0)
        for one, entry in entries.items()
        if without_suffix(one.lower()).endswith(SUFFIXES)
    }
    if not sizes:
        raise ExperimentError(f"{name}: holds no captures, expected names as x.pcap or x.pcapng")
    return sizes


def parts(captures: Sequence[Source], out: str, cores: int) -> list[Part]:
    """Return captures in parts that depend on their order and sizes alone."""
    groups: list[list[Source]] = []
    size = 0
    for one in captures:
        if not groups or len(groups[-1]) == FILES or size + one.size > BYTES:
            groups.append([])
            size = 0
        groups[-1].append(one)
        size += one.size
    return [Part(number, tuple(group), out, cores) for number, group in enumerate(groups)]


# ---- a part


def make(part: Part) -> list[dict[str, Any]]:
    """Classify a part's captures, write its two files, and return the rows of its captures."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        flows, files = Path(folder, "flows"), Path(folder, "files")
        with pq.ParquetWriter(flows, SCHEMA, compression="zstd") as writer:
            for source in part.sources:
                row, table = one_file(source, part.cores)
                rows.append(row)
                if table is not None and table.num_rows:
                    writer.write_table(table)
        table = pa.Table.from_pylist(rows, FILE_SCHEMA)
        pq.write_table(table, files, compression="zstd")
        deliver(flows, part.path("flows"))
        deliver(files, part.path("files"))
    return rows


def one_file(source: Source, cores: int) -> tuple[dict[str, Any], Any]:
    """Return a capture's row and its flows; None for the flows of an unreadable capture."""
    from midcall.errors import CaptureError, ClassifierError

    row = {"file": printable(source.name), "bytes": source.size}
    row |= {"packets": 0, "flows": 0, "calls": 0}
    row |= {"notices": "", "error": ""}
    try:
        done = classify_file(source.name, cores, stream_of(source.name))
    except (CaptureError, ClassifierError, ExperimentError) as error:
        return row | {"error": str(error)}, None
    except Exception as error:
        return row | {"error": describe(error)}, None
    certain = pc.sum(pc.equal(done.table["verdict"], "certain")).as_py()
    row |= {"packets": done.packets, "flows": done.table.num_rows, "calls": certain or 0}
    return row | {"notices": "; ".join(done.notices)}, done.table


def stream_of(name: str) -> Any:
    """Return an open stream of a URL, None for a path."""
    if not is_url(name):
        return None
    system, path = filesystem(name)
    return system.open(path, "rb")


def deliver(file: Path, target: str) -> None:
    """Move a finished file to its place atomically.

    Raises ExperimentError if it cannot be written.
    """
    try:
        if is_url(target):
            system, path = filesystem(target)
            system.makedirs(system._parent(path), exist_ok=True)
            system.put_file(str(file), path)
        else:
            _put(file.read_bytes(), Path(target))
    except Exception as error:  # each file system has errors of its own
        raise ExperimentError(f"{target}: cannot be written ({error})") from error


def _put(content: bytes, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.chmod(draft, 0o644)
        os.replace(draft, place)
    finally:
        Path(draft).unlink(missing_ok=True)


def content(target: str) -> bytes | None:
    """Return the bytes of a file, None if it does not exist. Raises ExperimentError."""
    try:
        if is_url(target):
            system, path = filesystem(target)
            whole: bytes = system.cat_file(path)
            return whole
        return Path(target).read_bytes()
    except FileNotFoundError:
        return None
    except Exception as error:  # each file system has errors of its own
        raise ExperimentError(f"{target}: cannot be read ({error})") from error


def finished(part: Part) -> list[dict[str, Any]] | None:
    """Return the rows of a complete part, None for an incomplete one."""
    stored = content(part.path("files"))
    if stored is None:
        return None
    try:
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(stored)).to_pylist()
    except pa.ArrowInvalid:
        return None
    return rows


# ---- all parts


def claim(out: str, captures: Sequence[Source], count: int) -> None:
    """Write OUT/dataset.json, the inputs of the dataset. Raises ExperimentError if the folder has
    another dataset."""
    listing = repr([tuple(one) for one in captures]).encode()
    value = {
        "schema": 1,
        "files": len(captures),
        "parts": count,
        "captures": hashlib.sha256(listing).hexdigest(),
        "code": code_digest((*CELL_PACKAGES, "experiments")),
    }
    text = (json.dumps(value, indent=1) + "\n").encode()
    existing = content(f"{out}/dataset.json")
    if existing is None:
        with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
            file = Path(folder, "dataset.json")
            file.write_bytes(text)
            deliver(file, f"{out}/dataset.json")
    elif existing != text:
        raise ExperimentError(
            f"{out}: holds the results of other captures, or of another version; "
            "give a new folder with -o, or remove this one"
        )


Answers = Iterator[tuple[Part, list[dict[str, Any]] | None, str]]


def make_local(work: Sequence[Part]) -> Answers:
    """Make parts locally, one after the other: (part, rows of its captures, error)."""
    for part in work:
        try:
            yield part, make(part), ""
        except ExperimentError as error:
            yield part, None, str(error)


def make_on_cluster(work: Sequence[Part], address: str, say: Callable[[str], None]) -> Answers:
    """Make parts on a cluster, in order of completion: (part, rows of its captures, error)."""
    from midcall.experiments.jobs.cluster import Cluster

    with Cluster(address) as workers:
        for answer in workers.each(make, work):
            yield answer.task, answer.value, answer.error
        say(workers.summary_line)


def classify(
    names: Sequence[str], out: str, say: Callable[[str], None], cluster: str | None, cores: int = 1
) -> Made:
    """Classify captures into a dataset, locally or on a cluster; returns its totals.

    `say` receives one sentence per capture that could not be read and per part that failed.
    """
    place = out.rstrip("/") if is_url(out) else os.path.abspath(out)
    captures = sources(names)
    all_parts = parts(captures, place, cores)
    claim(place, captures, len(all_parts))
    rows = {part.number: done for part in all_parts if (done := finished(part)) is not None}
    remaining = [part for part in all_parts if part.number not in rows]
    failed = []
    with Progress("parts", len(all_parts)) as bar:
        bar.done = len(rows)
        for part, part_rows, error in (
            make_on_cluster(remaining, cluster, bar.say)
            if cluster and remaining
            else make_local(remaining)
        ):
            if part_rows is None:
                failed.append(f"part {part.number}: {error}")
                bar.say(f"midcall: {failed[-1]}")
            else:
                rows[part.number] = part_rows
            bar.step(part.sources[-1].name)
    all_rows = [row for number in sorted(rows) for row in rows[number]]
    for row in all_rows:
        if row["error"]:
            say(row["error"])
    unread = sum(bool(row["error"]) for row in all_rows)
    return Made(
        len(all_rows),
        _sum(all_rows, "bytes"),
        _sum(all_rows, "packets"),
        _sum(all_rows, "flows"),
        _sum(all_rows, "calls"),
        unread,
        failed,
    )


def _sum(rows: Sequence[dict[str, Any]], key: str) -> int:
    return sum(row[key] for row in rows)


def lines(made: Made, out: str) -> list[str]:
    """Return the totals as lines of text."""
    return [
        f"{made.files} captures ({made.size / 1e9:.2f} GB): {made.packets:,} packets, "
        f"{made.flows:,} flows, {made.calls:,} of calls; {made.unread} could not be read",
        f"{printable(out).rstrip('/')}/flows",
    ]
