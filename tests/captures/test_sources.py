# SPDX-License-Identifier: BSD-3-Clause
"""Sources: files known by sha256, fetched from local servers, and reasons for what is missing."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from midcall.captures.fetch import debian, git_blob, stall_guard
from midcall.captures.fetch.archives import ArchiveError, search
from midcall.captures.fetch.debian import DebianError, source_stanzas, tarballs
from midcall.captures.fetch.download import DownloadError, download
from midcall.captures.fetch.fetch import obtain, summary
from midcall.captures.fetch.git_blob import HistoryError, fetch_blob
from midcall.captures.fetch.stall_guard import run
from midcall.captures.truth.catalogue import Capture, Catalogue, Origin, Source
from midcall.errors import CaptureError

ONE, TWO = b"first capture" * 100, b"second capture" * 100
COMMIT = "1" * 40


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def capture(name: str, content: bytes, *sources: Source, **more: object) -> Capture:
    keys: dict[str, object] = {
        "name": name, "file": f"{name}.pcap", "sha256": sha(content), "bytes": len(content),
        "packets": 1, "role": "innocent", "app": "none", "kind": "none", "media": False,
        "access": "unknown", "group": name, "licence": "none", "sources": list(sources),
    }  # fmt: skip
    return Capture.model_validate(keys | more)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's corpus, local catalogue, proxies and Git settings out of these tests."""
    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


# ---- folders and the cache


def test_files_of_a_folder_are_known_by_their_sums_whatever_their_names(tmp_path: Path) -> None:
    deep = tmp_path / "corpus" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "renamed.bin").write_bytes(ONE)
    catalogue = Catalogue([capture("one", ONE), capture("two", TWO)], [])
    got = obtain(catalogue, corpus=tmp_path / "corpus", cache=tmp_path / "cache", offline=True)
    assert got.paths == {sha(ONE): deep / "renamed.bin"}
    assert got.missing == {sha(TWO): f"it is not in {tmp_path / 'corpus'}"}


def test_a_tampered_file_of_the_right_name_and_size_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    file = folder / "one.pcap"
    file.write_bytes(ONE)
    catalogue = Catalogue([capture("one", ONE)], [])
    assert obtain(catalogue, corpus=folder, cache=tmp_path / "c", offline=True).paths
    about = file.stat()
    file.write_bytes(b"F" + ONE[1:])
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert obtain(catalogue, corpus=folder, cache=tmp_path / "c", offline=True).paths == {}


def test_sums_are_remembered_so_that_an_unchanged_file_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "x").write_bytes(ONE)
    catalogue = Catalogue([capture("one", ONE)], [])
    obtain(catalogue, corpus=folder, cache=tmp_path / "c", offline=True)
    monkeypatch.setattr("midcall.captures.fetch.fetch.sum_of", lambda _path: "read again")
    assert obtain(catalogue, corpus=folder, cache=tmp_path / "c", offline=True).paths


def test_a_corpus_that_is_no_folder_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        obtain(Catalogue([], []), corpus=tmp_path / "none", cache=tmp_path / "c", offline=True)
    expected = f"{tmp_path / 'none'}: no such folder, expected one that holds captures"
    assert str(caught.value) == expected


def test_a_corpus_variable_that_names_no_folder_is_noticed_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDCALL_CORPUS", str(tmp_path / "none"))
    got = obtain(Catalogue([], []), cache=tmp_path / "c", offline=True)
    (notice,) = got.notices
    assert notice.startswith("MIDCALL_CORPUS: ")
    assert notice.endswith("it is passed over")


def test_a_changed_file_of_the_cache_is_thrown_away(tmp_path: Path) -> None:
    cache = tmp_path / "c"
    cache.mkdir()
    (cache / sha(ONE)).write_bytes(b"something else")
    got = obtain(Catalogue([capture("one", ONE)], []), cache=cache, offline=True)
    assert got.paths == {}
    assert got.notices == [f"{cache / sha(ONE)}: was changed; it is fetched anew"]
    assert not (cache / sha(ONE)).exists()


def test_an_added_capture_that_was_changed_is_refused_with_the_reason(tmp_path: Path) -> None:
    files = tmp_path / "local" / "pcaps"
    files.mkdir(parents=True)
    (files / "one.pcap").write_bytes(TWO)
    catalogue = Catalogue([capture("one", ONE, added=True)], [])
    got = obtain(catalogue, cache=tmp_path / "c", offline=True)
    reason = got.missing[sha(ONE)]
    assert reason == (
        f"{files / 'one.pcap'} was changed: its sha256 is {sha(TWO)}, expected {sha(ONE)}"
    )


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    origin = Origin(name="o", kind="archive", repository="http://127.0.0.1:1/a/b", commit=COMMIT)
    one = capture("one", ONE, Source(origin="o", path="p"))
    got = obtain(Catalogue([one], [origin]), cache=tmp_path / "file" / "c")
    assert got.notices[0].endswith("cannot be written: Not a directory; nothing more is fetched")


def test_the_summary_counts_places_and_names_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "x").write_bytes(ONE)
    origin = Origin(name="rebuilt", kind="none", note="only a corpus folder holds it")
    two = capture("two", TWO, Source(origin="rebuilt", path=""))
    catalogue = Catalogue([capture("one", ONE), two], [origin])
    got = obtain(catalogue, corpus=folder, cache=tmp_path / "c", offline=True)
    assert list(summary(catalogue, got)) == [
        "1 of 2 captures: 1 from folder",
        f"missing: two: it is not in {folder}; only a corpus folder holds it",
    ]


# ---- downloads and archives, from a server of this machine


class Server(http.server.BaseHTTPRequestHandler):
    """Serves the class's files, whole or a range; counts what was asked."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[str, str]] = []  # noqa: RUF012
    cut = 0
    version = '"v1"'

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.asked.append((self.path, wanted))
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == self.version:
            start = int(wanted[6:].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.version)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start : start + self.cut] if self.cut else content[start:])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Return the address of a local server, whose files are `Server.files`."""
    Server.files, Server.asked, Server.cut, Server.version = {}, [], 0, '"v1"'
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def tarball(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_download_tells_its_progress(server: str, tmp_path: Path) -> None:
    Server.files["/f"] = ONE
    progress: list[tuple[int, int | None]] = []
    download(f"{server}/f", tmp_path / "f", lambda done, total: progress.append((done, total)))
    assert (tmp_path / "f").read_bytes() == ONE
    assert progress[-1] == (len(ONE), len(ONE))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_broken_download_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    Server.files["/f"], Server.cut = ONE, 500
    with pytest.raises(DownloadError, match=r"broke off: .*500"):
        download(f"{server}/f", tmp_path / "f")
    Server.cut = 0
    download(f"{server}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == ONE
    assert Server.asked == [("/f", ""), ("/f", "bytes=500-")]


def test_a_download_of_another_version_begins_anew(server: str, tmp_path: Path) -> None:
    Server.files["/f"], Server.cut = ONE, 500
    with pytest.raises(DownloadError):
        download(f"{server}/f", tmp_path / "f")
    Server.files["/f"], Server.cut, Server.version = TWO, 0, '"v2"'
    download(f"{server}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == TWO


def test_a_download_beyond_its_bound_is_refused(server: str, tmp_path: Path) -> None:
    Server.files["/f"] = ONE
    with pytest.raises(DownloadError, match="it is 1300 bytes large, more than the bound of 99"):
        download(f"{server}/f", tmp_path / "f", limit=99)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_is_unreachable_and_one_that_lacks_is_not(
    server: str, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="the server answered 404 Not Found") as caught:
        download(f"{server}/none", tmp_path / "f")
    assert not caught.value.unreachable
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached") as caught:
        download("http://127.0.0.1:1/f", tmp_path / "f")
    assert caught.value.unreachable


def origin_at(server: str) -> Origin:
    return Origin(name="repo", kind="archive", repository=f"{server}/o/r", commit=COMMIT)


def many(count: int) -> list[bytes]:
    return [b"%03d" % i * 50 for i in range(count)]


def test_a_pinned_archive_gives_its_captures_and_is_asked_once(server: str, tmp_path: Path) -> None:
    contents = many(12)
    members = {f"r-1/some/where/{i}": content for i, content in enumerate(contents)}
    Server.files[f"/o/r/archive/{COMMIT}.tar.gz"] = tarball(members)
    source = Source(origin="repo", path="elsewhere")
    catalogue = Catalogue(
        [capture(f"c{i}", content, source) for i, content in enumerate(contents)],
        [origin_at(server)],
    )
    progress: list[str] = []
    got = obtain(
        catalogue, cache=tmp_path / "c", progress=lambda what, _d, _t: progress.append(what)
    )
    assert len(got.paths) == 12
    assert got.paths[sha(contents[3])].read_bytes() == contents[3]
    assert set(progress) == {"archive of o/r"}
    assert obtain(catalogue, cache=tmp_path / "c").origins == {sha(c): "cache" for c in contents}
    assert len(Server.asked) == 1


def test_few_files_of_a_repository_are_fetched_one_by_one(server: str, tmp_path: Path) -> None:
    Server.files[f"/o/r/raw/{COMMIT}/a/one.pcap"] = ONE
    catalogue = Catalogue(
        [capture("one", ONE, Source(origin="repo", path="a/one.pcap"))], [origin_at(server)]
    )
    assert obtain(catalogue, cache=tmp_path / "c").origins == {sha(ONE): "repo"}


def test_a_file_with_another_sum_is_not_taken(server: str, tmp_path: Path) -> None:
    Server.files[f"/o/r/raw/{COMMIT}/a/one.pcap"] = b"X" + ONE[1:]
    catalogue = Catalogue(
        [capture("one", ONE, Source(origin="repo", path="a/one.pcap"))], [origin_at(server)]
    )
    got = obtain(catalogue, cache=tmp_path / "c")
    assert got.missing == {sha(ONE): "archive of o/r: it holds other versions of one"}


def test_what_failed_is_not_asked_again_until_a_retry(server: str, tmp_path: Path) -> None:
    one = capture("one", ONE, Source(origin="repo", path="a"))
    catalogue = Catalogue([one], [origin_at(server)])
    first = obtain(catalogue, cache=tmp_path / "c")
    assert first.missing == {sha(ONE): "archive of o/r: the server answered 404 Not Found"}
    second = obtain(catalogue, cache=tmp_path / "c")
    assert second.missing[sha(ONE)].endswith("404 Not Found (tried 0 min ago)")
    assert len(Server.asked) == 1
    Server.files[f"/o/r/raw/{COMMIT}/a"] = ONE
    assert obtain(catalogue, cache=tmp_path / "c", retry=True).paths


def test_offline_asks_nobody_and_says_so(server: str, tmp_path: Path) -> None:
    one = capture("one", ONE, Source(origin="repo", path="a"))
    got = obtain(Catalogue([one], [origin_at(server)]), cache=tmp_path / "c", offline=True)
    assert got.missing == {sha(ONE): "archive of o/r: not asked, no network is to be used"}
    assert Server.asked == []


def test_members_that_would_escape_are_never_written_under_their_names(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    archive.write_bytes(tarball({"../../escaped": ONE, "/absolute": TWO}))
    kept: dict[str, bytes] = {}
    sums = search(archive, {sha(ONE): len(ONE), sha(TWO): len(TWO)}, kept.__setitem__)
    assert sums == {sha(ONE), sha(TWO)}
    assert kept == {sha(ONE): ONE, sha(TWO): TWO}
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.gz"]


def test_an_archive_beyond_the_bounds_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "big.tar.gz"
    archive.write_bytes(tarball({"a": b"0" * 4000, "b": b"1" * 4000}))
    wanted = {sha(ONE): len(ONE)}
    with pytest.raises(ArchiveError, match=r"big\.tar\.gz: more than 1 members or"):
        search(archive, wanted, lambda _sum, _content: None, members=1)
    with pytest.raises(ArchiveError, match="or 5000 bytes"):
        search(archive, wanted, lambda _sum, _content: None, unpacked=5000)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "cut.tar.gz"
    archive.write_bytes(tarball({"a": os.urandom(40000)})[:20000])
    with pytest.raises(ArchiveError, match=r"cut\.tar\.gz: damaged archive"):
        search(archive, {sha(ONE): len(ONE)}, lambda _sum, _content: None)


# ---- Git histories, from a repository of this machine


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, str]:
    """Return a repository whose older history alone holds a capture, and that blob's id."""
    if shutil.which("git") is None:
        pytest.skip("git is not on this machine")
    folder = tmp_path / "repo"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    folder.mkdir()
    git("init", "--quiet")
    git("config", "uploadpack.allowFilter", "true")
    (folder / "one.pcap").write_bytes(ONE)
    git("add", "."), git("commit", "--quiet", "-m", "one")
    blob = git("rev-parse", "HEAD:one.pcap")
    (folder / "one.pcap").write_bytes(b"trimmed")
    git("commit", "--quiet", "-am", "trimmed")
    return f"file://{folder}", blob


def test_a_blob_of_the_history_is_fetched_and_verified(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    address, blob = repository
    origin = Origin(name="old", kind="history", repository=address)
    source = Source(origin="old", path="one.pcap", blob=blob)
    got = obtain(Catalogue([capture("one", ONE, source)], [origin]), cache=tmp_path / "c")
    assert got.origins == {sha(ONE): "old"}
    assert got.paths[sha(ONE)].read_bytes() == ONE


def test_a_blob_comes_out_of_a_partial_clone_where_it_cannot_be_asked_for_alone(
    repository: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, blob = repository
    calls: list[list[str]] = []
    real = git_blob.git

    def refusing(arguments, watch, tell):  # type: ignore[no-untyped-def]
        calls.append(arguments)
        if "fetch" in arguments:
            return stall_guard.Done(128, "", "error: not our ref", False)
        return real(arguments, watch, tell)

    monkeypatch.setattr(git_blob, "git", refusing)
    assert fetch_blob(address, blob, tmp_path / "git") == ONE
    assert any("--filter=blob:none" in arguments for arguments in calls)


def test_a_blob_that_is_not_there_is_told(repository: tuple[str, str], tmp_path: Path) -> None:
    address, _ = repository
    with pytest.raises(HistoryError) as caught:
        fetch_blob(address, "0" * 39 + "1", tmp_path / "git")
    assert str(caught.value) == f"{address} does not hold the blob {'0' * 39}1"
    assert not caught.value.unreachable


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not on this machine")
    with pytest.raises(HistoryError, match="does not appear to be a git repository"):
        fetch_blob(f"file://{tmp_path}/none", "1" * 40, tmp_path / "git")


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_file_at_a_commit_comes_without_the_others(tmp_path: Path, filters: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not on this machine")
    folder, name = tmp_path / "repo", "été/un appel.pcap"

    def git(*arguments: str, where: Path = folder) -> str:
        command = ["git", "-C", str(where), "-c", "user.name=t", "-c", "user.email=t@t"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (folder / "été").mkdir(parents=True)
    git("init", "--quiet")
    git("config", "uploadpack.allowFilter", filters)
    (folder / name).write_bytes(ONE)
    (folder / "large.bin").write_bytes(b"another file of the same commit")
    git("add", "."), git("commit", "--quiet", "-m", "one")
    commit, other = git("rev-parse", "HEAD"), git("rev-parse", "HEAD:large.bin")
    (folder / name).write_bytes(b"trimmed")
    git("commit", "--quiet", "-am", "trimmed")
    origin = Origin(name="repo", kind="git", repository=f"file://{folder}", commit=commit)
    here, lost = Source(origin="repo", path=name), Source(origin="repo", path="no.pcap")
    wanted = [capture("one", ONE, here), capture("two", TWO, lost)]
    got = obtain(Catalogue(wanted, [origin]), cache=tmp_path / "c")
    assert got.paths[sha(ONE)].read_bytes() == ONE
    assert "does not hold no.pcap at" in got.missing[sha(TWO)]
    (store,) = (tmp_path / "c" / "git").glob("*/commits.git")
    objects = git("cat-file", "--batch-all-objects", "--batch-check", where=store)
    assert (other in objects) == (filters == "false")


# ---- Debian source packages


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    (folder / "sources.list.d").mkdir(parents=True)
    return folder


def test_deb_src_entries_are_derived_from_both_formats(etc: Path) -> None:
    (etc / "sources.list.d" / "a.sources").write_text(
        "# a comment\nTypes: deb\nURIs: http://mirror.example/debian\n"
        "Suites: stable stable-security stable-updates\nComponents: main\n"
        "Signed-By:\n -----BEGIN KEY-----\n .\n abc\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/x\nSuites: s\nComponents: main\n"
    )
    (etc / "sources.list.d" / "b.list").write_text(
        "deb [arch=amd64 signed-by=/keys/k.gpg] https://other.example/ubuntu noble universe # x\n"
        "deb file:/srv/packages ./\n"
    )
    assert list(source_stanzas(etc)) == [
        "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: stable stable-updates\n"
        "Components: main\nSigned-By: \n -----BEGIN KEY-----\n .\n abc\n",
        "Types: deb-src\nURIs: https://other.example/ubuntu\nSuites: noble\n"
        "Components: universe\nSigned-By: /keys/k.gpg\n",
    ]


def test_a_machine_without_apt_is_told(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda _name: None)
    with pytest.raises(DebianError, match="apt-get is not on this machine"):
        tarballs("p", tmp_path / "w", tmp_path / "t", lambda _size: None, etc)


def test_a_machine_without_remote_sources_is_told(tmp_path: Path, etc: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not on this machine")
    expected = "this machine's apt names no remote source with a deb-src to derive"
    with pytest.raises(DebianError, match=expected):
        tarballs("p", tmp_path / "w", tmp_path / "t", lambda _size: None, etc)


def test_a_source_package_of_a_local_archive_is_fetched_and_searched(
    server: str, tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not on this machine")
    archive = tarball({"p-1/tests/one.pcap": ONE})
    base = "/debian/dists/stable"
    listing = (
        "Package: p\nFormat: 3.0 (quilt)\nBinary: p\nArchitecture: any\nVersion: 1-1\n"
        f"Directory: pool\nChecksums-Sha256:\n {sha(archive)} {len(archive)} p_1.orig.tar.gz\n"
        f" {sha(b'dsc')} 3 p_1-1.dsc\n"
    ).encode()
    release = (
        "Suite: stable\nCodename: stable\nComponents: main\nArchitectures: amd64\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\nAcquire-By-Hash: no\n"
        f"SHA256:\n {sha(listing)} {len(listing)} main/source/Sources\n"
    ).encode()
    Server.files |= {
        f"{base}/Release": release,
        f"{base}/main/source/Sources": listing,
        "/debian/pool/p_1.orig.tar.gz": archive,
        "/debian/pool/p_1-1.dsc": b"dsc",
    }
    (etc / "sources.list").write_text(f"deb [trusted=yes] {server}/debian stable main\n")
    monkeypatch.setattr(debian, "acquire_settings", lambda: [])
    real = debian.tarballs
    monkeypatch.setattr(
        "midcall.captures.fetch.fetch.tarballs",
        lambda package, work, target, tell: real(package, work, target, tell, etc),
    )
    origin = Origin(name="deb", kind="debian", package="p")
    one = capture("one", ONE, Source(origin="deb", path="tests/one.pcap"))
    got = obtain(Catalogue([one], [origin]), cache=tmp_path / "c")
    assert got.missing == {}
    assert got.origins == {sha(ONE): "deb"}


# ---- watched commands


def test_a_command_from_which_nothing_comes_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_guard, "FIRST_S", 0.2)
    done = run(["sleep", "600"], tmp_path)
    assert done.stalled
    assert done.code != 0


def test_a_command_that_goes_on_writing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_guard, "FIRST_S", 2.0)
    progress: list[int] = []
    script = f"for i in 1 2 3; do echo $i >> {tmp_path}/f; sleep 0.2; done; echo out; echo err >&2"
    done = run(["sh", "-c", script], tmp_path, tell=progress.append)
    assert (done.code, done.output, done.errors, done.stalled) == (0, "out\n", "err\n", False)
    assert progress[-1] > 0
