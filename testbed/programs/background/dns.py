# SPDX-License-Identifier: BSD-3-Clause
"""DNS look-ups, as by a phone that wakes up: unbound at the remote end, dig at the caller's."""

from __future__ import annotations

from midcall.testbed.programs.background.certificates import certificate, lacking
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.background.web import tool
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking as lacking_tools

ADDRESS, NAME = "198.19.5.1", "dns.example.net"
HOSTS = ("www", "img", "api", "mail", "cdn", "push", "time", "news", "shop", "video")
#: Kind -> description of its flows, transport, port, and dig's options.
SPEAKS = {
    "dns": ("DNS", "udp", 53, ()),
    "dns-tcp": ("DNS over TCP", "tcp", 53, ("+tcp", "+keepopen")),
    "dns-tls": ("DNS over TLS", "tcp", 853, ("+tls", "+keepopen")),
    "dns-https": ("DNS over HTTPS", "tcp", 443, ("+https", "+keepopen")),
}
PAUSE_SECONDS = 0.4

RESOLVER = """server:
  do-daemonize: no
  use-syslog: no
  logfile: "{folder}/errors"
  pidfile: "{folder}/unbound.pid"
  chroot: ""
  directory: "{folder}"
  username: ""
  num-threads: 1
  interface: {address}@53
  interface: {address}@853
  interface: {address}@443
  tls-port: 853
  https-port: 443
  tls-service-key: "{key}"
  tls-service-pem: "{chain}"
  access-control: 0.0.0.0/0 allow
  local-zone: "example.org." static
{data}
remote-control:
  control-enable: no
"""


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    return lacking_tools({"unbound": "unbound", "dig": "bind9-dnsutils"}) + lacking()


def start(stage: Stage, kind: str) -> Act:
    """Start the resolver; a run of dig queries two addresses of a name."""
    folder = stage.folder("resolver")
    made = certificate(folder, NAME)
    data = "\n".join(
        f'  local-data: "{host}.example.org. 300 IN {row}"'
        for number, host in enumerate(HOSTS, 1)
        for row in (f"A 198.19.6.{number}", f"AAAA 2001:db8::{number}")
    )
    text = RESOLVER.format(
        folder=folder, address=ADDRESS, key=made.key, chain=made.chain, data=data
    )
    (folder / "unbound.conf").write_text(text)
    unbound = stage.server([tool("unbound"), "-d", "-c", str(folder / "unbound.conf")], "unbound")
    unbound.wait_for(lambda: listening(stage.line.server_pid, "tcp", 853), 10, "listening")
    speaks, proto, port, words = SPEAKS[kind]

    def act(seconds: float) -> None:
        for number in range(max(2, round(seconds / PAUSE_SECONDS))):
            host = HOSTS[number % len(HOSTS)]
            asked = [word for row in ("A", "AAAA") for word in (f"{host}.example.org", row)]
            stage.run(["dig", f"@{ADDRESS}", *words, *asked], "dig", 20)
            stage.rest(PAUSE_SECONDS)

    return Act((Service(proto, ADDRESS, port, f"unbound, {speaks}"),), act)
