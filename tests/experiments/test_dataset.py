# SPDX-License-Identifier: BSD-3-Clause
"""A folder of Parquet: what stands in it, how it goes on, what is refused."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from midcall.errors import ExperimentError
from midcall.experiments.cells.classify import classify_file
from midcall.experiments.cli import classifying
from midcall.experiments.tools import dataset
from midcall.experiments.tools.dataset import Source, parts

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
NAMES = ("sample-dns.pcap", "sample-viber-audio.pcap", "sample-whatsapp-audio.pcap")


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    folder = tmp_path / "captures"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(SAMPLES / name, folder)
    return folder


def made(names: list[str], out: str) -> tuple[dataset.Made, list[str]]:
    said: list[str] = []
    return dataset.classify(names, out, said.append, None), said


def test_a_dataset_holds_the_rows_that_files_give(captures: Path, tmp_path: Path) -> None:
    total, said = made([str(captures)], f"{tmp_path}/out/")
    flows = pq.read_table(tmp_path / "out" / "flows")
    each = [classify_file(str(captures / name)).table.to_pylist() for name in NAMES]
    assert flows.to_pylist() == [row for rows in each for row in rows]
    files = pq.read_table(tmp_path / "out" / "files").to_pylist()
    assert [Path(row["file"]).name for row in files] == list(NAMES)
    assert [row["flows"] for row in files] == [len(rows) for rows in each]
    assert (total.files, total.flows, total.unread) == (3, flows.num_rows, 0)
    assert total.calls == sum(row["verdict"] == "certain" for rows in each for row in rows)
    assert not said


def test_urls_are_read_and_written(captures: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    (captures / "packed.pcap.gz").write_bytes(
        gzip.compress((captures / NAMES[0]).read_bytes(), mtime=0)
    )
    memory = fsspec.filesystem("memory")
    memory.put(str(captures), "/bucket/", recursive=True)
    made(["memory://bucket"], "memory://results/x/")
    made([str(captures)], f"{tmp_path}/out/")
    with memory.open("/results/x/flows/part-00000.parquet") as stream:
        distant = pq.read_table(stream).drop(["file"])
    assert distant.equals(pq.read_table(tmp_path / "out" / "flows").drop(["file"]))
    with pytest.raises(ExperimentError, match="nothing is there"):
        made(["memory://elsewhere"], "memory://results/y/")
    again, _ = made(["memory://bucket"], "memory://results/x/")  # which only reads
    assert again.files == 4


def test_what_is_whole_is_not_made_again(captures: Path, tmp_path: Path) -> None:
    monkey, out = pytest.MonkeyPatch(), tmp_path / "out"
    monkey.setattr(dataset, "FILES", 1)
    first, _ = made([str(captures)], f"{out}/")
    (out / "files" / "part-00001.parquet").unlink()  # as if it was stopped there
    done: list[int] = []
    make = dataset.make
    monkey.setattr(dataset, "make", lambda part: (done.append(part.number), make(part))[1])
    again, _ = made([str(captures)], f"{out}/")
    monkey.undo()
    assert done == [1]
    assert again == first


def test_results_of_other_captures_are_not_mixed(captures: Path, tmp_path: Path) -> None:
    made([str(captures)], f"{tmp_path}/out/")
    (captures / NAMES[0]).unlink()
    with pytest.raises(ExperimentError, match="results of other captures"):
        made([str(captures)], f"{tmp_path}/out/")


def test_a_file_that_cannot_be_read_is_a_row(captures: Path, tmp_path: Path) -> None:
    (captures / "a.pcap").write_bytes(b"no capture")
    total, said = made([str(captures)], f"{tmp_path}/out/")
    row = pq.read_table(tmp_path / "out" / "files").to_pylist()[0]
    assert total.unread == 1
    assert row["error"] == said[0]
    assert "not a capture" in said[0]


def test_a_missing_dask_is_told(
    captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "midcall.experiments.jobs.cluster", raising=False)
    with pytest.raises(ExperimentError, match=r"not installed: pip install 'midcall\[dask\]'"):
        dataset.classify([str(captures)], f"{tmp_path}/out/", print, "local")


def test_parts_depend_on_names_and_sizes_alone() -> None:
    small = [Source(f"/x/{i:03d}.pcap", 10) for i in range(150)]
    assert [len(part.sources) for part in parts(small, "/out", 1)] == [64, 64, 22]
    large = [Source("a", 200 << 20), Source("b", 100 << 20), Source("c", 900 << 20), Source("d", 1)]
    found = [[one.name for one in part.sources] for part in parts(large, "/out", 1)]
    assert found == [["a"], ["b"], ["c"], ["d"]]


def test_a_place_that_cannot_be_written_is_told(
    captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ExperimentError, match=r"file/dataset.json: cannot be (read|written)"):
        made([str(captures)], f"{file}/")

    def full(content: bytes, place: Path) -> None:
        if place.suffix == ".parquet":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "_put", full)
    total, _ = made([str(captures)], f"{tmp_path}/out/")
    assert (total.files, len(total.failed)) == (0, 1)
    assert "cannot be written ([Errno 28] No space left on device)" in total.failed[0]


def test_what_cannot_be_is_told(captures: Path, tmp_path: Path) -> None:
    for words in (("csv", f"{tmp_path}/o/", None), (None, "x.csv", "local"), (None, None, "local")):
        with pytest.raises(ExperimentError, match="folder"):
            classifying.run([str(captures)], words[0], words[1], 1, words[2])
    with pytest.raises(ExperimentError, match="the output is a folder"):
        classifying.run(["s3://bucket/x"], None, "x.csv", 1, None)
    with pytest.raises(ExperimentError, match="nowhere"):
        made(["nowhere://x"], f"{tmp_path}/o/")
