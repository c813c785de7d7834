# SPDX-License-Identifier: BSD-3-Clause
"""Web traffic: curl at the caller's end fetches from nginx at the remote end, by HTTP/1.1, 2 or 3.

A visit fetches a page and its pictures over one connection. A pause for reading follows. The kind
"video-http2" fetches segments of a video instead.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from midcall.testbed.programs.background.certificates import certificate, lacking
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking as lacking_tools

ADDRESS, NAME = "198.19.4.1", "shop.example.com"
#: Sizes in bytes: of a page, of each of its pictures, and of a segment of video. One segment is
#: fetched per second.
PAGE, PICTURES, SEGMENT = 3_000, (4_000, 1_500, 2_500), 9_000
#: The pause after each visit, and how many different pages the server has.
READING_SECONDS, PAGES = 1.2, 3
#: Kind of traffic -> description of its flows, transport, port, and curl's option for the version.
SPEAKS = {
    "web-plain": ("HTTP/1.1 in the clear", "tcp", 80, "--http1.1"),
    "web-http1": ("HTTP/1.1 over TLS", "tcp", 443, "--http1.1"),
    "web-http2": ("HTTP/2 over TLS", "tcp", 443, "--http2"),
    "web-http3": ("HTTP/3 over QUIC", "udp", 443, "--http3-only"),
    "video-http2": ("HTTP/2 over TLS", "tcp", 443, "--http2"),
}

SITE = """daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
  access_log off;
  types {{ text/html html; image/jpeg jpg; video/mp4 mp4; }}
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  ssl_certificate {chain};
  ssl_certificate_key {key};
  server {{
    listen {address}:80;
    listen {address}:443 ssl;
    listen {address}:443 quic;
    http2 on;
    root {folder}/pages;
  }}
}}
"""


def missing(kind: str) -> list[str]:
    """Return what this machine lacks for the traffic, one sentence per item."""
    del kind
    return lacking_tools({"nginx": "nginx-light", "curl": "curl"}) + lacking()


def served(stage: Stage, address: str = ADDRESS, name: str = NAME) -> Path:
    """Start nginx at an address; returns the certificate file of the authority that clients trust.

    name: the host name in the server's certificate.
    """
    folder = stage.folder("site")
    server_certificate = certificate(folder, name)
    pages = folder / "pages"
    pages.mkdir()
    for number in range(PAGES):
        links = "".join(f'<img src="{number}-{k}.jpg">' for k in range(len(PICTURES)))
        page = f"<html><title>Page {number}</title>{links}<p>{secrets.token_hex(PAGE // 2)}</html>"
        (pages / f"{number}.html").write_text(page)
        for k, size in enumerate(PICTURES):
            (pages / f"{number}-{k}.jpg").write_bytes(secrets.token_bytes(size))
    (pages / "segment.mp4").write_bytes(secrets.token_bytes(SEGMENT))
    chain, key = server_certificate.chain, server_certificate.key
    text = SITE.format(folder=folder, chain=chain, key=key, address=address)
    (folder / "nginx.conf").write_text(text)
    nginx = stage.server([tool("nginx"), "-c", str(folder / "nginx.conf")], "nginx")
    nginx.wait_for(lambda: listening(stage.line.server_pid, "tcp", 443), 10, "listening")
    return server_certificate.authority


def start(stage: Stage, kind: str) -> Act:
    """Start the server at ADDRESS; returns the traffic of a client, one run of curl per visit."""
    return visits(stage, ADDRESS, kind)


def visits(stage: Stage, address: str, kind: str) -> Act:
    """Start the server at an address; returns the traffic of a client that visits its pages."""
    authority = served(stage, address)
    speaks, proto, port, version = SPEAKS[kind]
    scheme = "http" if port == 80 else "https"
    base = ["curl", "--silent", "--show-error", "--fail", version, "--cacert", str(authority)]
    base += ["--resolve", f"{NAME}:{port}:{address}"]

    def fetch(*files: str) -> list[str]:
        where = [f"{scheme}://{NAME}/{file}" for file in files]
        return [*base, *(word for url in where for word in ("--output", "/dev/null", url))]

    def watch(seconds: float) -> None:
        segments = ["segment.mp4"] * max(2, round(seconds))
        stage.run([*fetch(*segments), "--rate", "60/m"], "curl", seconds + 20)

    def browse(seconds: float) -> None:
        for visit in range(max(1, round(seconds / READING_SECONDS / 2))):
            number = visit % PAGES
            pictures = [f"{number}-{k}.jpg" for k in range(len(PICTURES))]
            stage.run(fetch(f"{number}.html", *pictures), "curl", 20)
            stage.rest(READING_SECONDS)

    act = watch if kind == "video-http2" else browse
    return Act((Service(proto, address, port, f"nginx, {speaks}"),), act)


def tool(name: str) -> str:
    """Return the path of a program, its name if it is not found.

    Folders such as /usr/sbin are searched too: they may be in the PATH of root only.
    """
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin") or name
