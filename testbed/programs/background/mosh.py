# SPDX-License-Identifier: BSD-3-Clause
"""Mosh: a shell over encrypted datagrams with typed commands; its packets begin with octet 80."""

from __future__ import annotations

import re

from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.process import lacking

ADDRESS, PORT = "198.19.16.1", 60001
COMMANDS = ("ls /", "date", "uname -a", "id", "echo hello there", "df")
PAUSE_SECONDS = 0.5
CONNECT = re.compile(r"MOSH CONNECT \d+ (\S+)")


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    tools = {"mosh-server": "mosh", "mosh-client": "mosh", "script": "bsdutils"}
    return lacking(tools)


def start(stage: Stage, kind: str) -> Act:
    """Start the server, which prints the session's key as it would over SSH."""
    del kind
    serves = f"mosh-server new -i {ADDRESS} -p {PORT} -l LC_ALL=C.UTF-8 -- sh; sleep 600"
    server = stage.server(["env", "LC_ALL=C.UTF-8", "sh", "-c", serves], "mosh-server")
    server.wait_for(lambda: CONNECT.search(server.written()) is not None, 15, "a session")
    match = CONNECT.search(server.written())
    assert match is not None
    session = ["env", f"MOSH_KEY={match[1]}", "LC_ALL=C.UTF-8", "TERM=xterm"]
    screen = f"stty rows 24 cols 80; mosh-client {ADDRESS} {PORT}"
    session += ["script", "-qec", screen, "/dev/null"]

    def act(seconds: float) -> None:
        client = stage.client(session, "mosh", talks=True)
        stage.rest(1.0)
        for number in range(max(3, round(seconds / PAUSE_SECONDS))):
            client.say(COMMANDS[number % len(COMMANDS)])
            stage.rest(PAUSE_SECONDS)
        client.end()

    return Act((Service("udp", ADDRESS, PORT, "mosh-server, a shell over datagrams"),), act)
