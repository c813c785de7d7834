# SPDX-License-Identifier: BSD-3-Clause
"""The capture that a word names: a path, a path in the corpus folder, or a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from midcall.captures.fetch.locate import catalogued, locate, locate_capture
from midcall.captures.truth.catalogue import load
from midcall.errors import CaptureError

SAMPLES = Path(__file__).parents[2] / "captures" / "samples"
NAME = "sample-dns"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a copy of a sample and a capture of no catalogue, in a folder of it."""
    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "corpus" / "inner"
    inner.mkdir(parents=True)
    shutil.copy(SAMPLES / f"{NAME}.pcap", inner / "copy.pcap")
    (inner / "other.pcap").write_bytes((inner / "copy.pcap").read_bytes()[:-1])
    return tmp_path / "corpus"


def test_a_path_in_the_corpus_folder_is_found_by_option_and_by_environment(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = corpus / "inner" / "other.pcap"
    assert locate("inner/other.pcap", corpus) == wanted
    with pytest.raises(CaptureError, match="no such file"):
        locate("inner/other.pcap")
    monkeypatch.setenv("MIDCALL_CORPUS", str(corpus))
    assert locate("inner/other.pcap") == wanted


def test_a_path_from_here_goes_before_one_in_the_corpus_folder(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "other.pcap").write_bytes(b"")
    assert locate("inner/other.pcap", corpus) == Path("inner/other.pcap")


def test_a_name_is_found_and_a_file_goes_before_it(corpus: Path, tmp_path: Path) -> None:
    assert locate(NAME).name == f"{NAME}.pcap"
    (tmp_path / NAME).mkdir()
    assert locate(NAME).name == f"{NAME}.pcap"  # a folder is no capture ...
    assert locate(NAME, folders=True) == Path(NAME)  # ... but can stand for those in it
    (tmp_path / NAME).rmdir()
    (tmp_path / NAME).write_bytes(b"")
    assert locate(NAME) == Path(NAME)


def test_the_entry_of_a_file_is_found_by_its_content(corpus: Path) -> None:
    path, entry = locate_capture("inner/copy.pcap", corpus)
    assert (path.name, entry and entry.name) == ("copy.pcap", NAME)
    assert locate_capture("inner/other.pcap", corpus)[1] is None
    assert catalogued("inner/copy.pcap", corpus) == catalogued(NAME)
    with pytest.raises(CaptureError, match="is not in the catalogue"):
        catalogued("inner/other.pcap", corpus)


@pytest.mark.parametrize("words", ["sample-dn", "inner/sample-dn.pcap", "SAMPLE-DNS"])
def test_an_unknown_word_gets_a_few_close_names_and_where_all_names_are(
    corpus: Path, words: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        locate(words, corpus)
    sentence = str(caught.value)
    assert sentence.startswith(f"{words}: no such file, ")
    assert f"did you mean {NAME}" in sentence
    assert "midcall captures list" in sentence
    assert sum(one.name in sentence.split() for one in load().captures) <= 3
    assert len(sentence) < 240


def test_a_word_like_no_name_and_an_absolute_path_get_no_names(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(CaptureError) as caught:
        locate("zzzz")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(CaptureError, match=r"no such file$"):
        locate(str(tmp_path / f"{NAME}.pcap"))


def test_a_corpus_that_is_no_folder_is_an_error_also_for_a_path(corpus: Path) -> None:
    with pytest.raises(CaptureError, match="no such folder"):
        locate(str(corpus / "inner" / "copy.pcap"), corpus / "none")


def test_a_folder_is_not_a_capture(corpus: Path) -> None:
    with pytest.raises(CaptureError, match="is a folder or a pipe"):
        locate_capture("inner", corpus)
