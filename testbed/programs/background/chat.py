# SPDX-License-Identifier: BSD-3-Clause
"""Chat: two clients that exchange messages through a broker, mosquitto and its clients."""

from __future__ import annotations

import shutil

from midcall.testbed.programs.background.certificates import certificate, lacking
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.background.web import tool
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking as lacking_tools

ADDRESS, NAME, PLAIN, SECURE = "198.19.8.1", "chat.example.net", 1883, 8883
LINES = (
    "are you there?", "just arrived, the train was late", "ok", "shall we eat something first",
    "the place at the corner, they have soup", "good, ten minutes", "I take the stairs",
)  # fmt: skip
PAUSE_SECONDS = 0.5

BROKER = """allow_anonymous true
listener {plain} {address}
listener {secure} {address}
certfile {chain}
keyfile {key}
"""


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    tools = {"mosquitto": "mosquitto", "mosquitto_pub": "mosquitto-clients"}
    return lacking_tools(tools) + lacking()


def start(stage: Stage, kind: str) -> Act:
    """Start the broker, a listener and a writer at each end."""
    folder = stage.folder("broker")
    made = certificate(folder, NAME, ADDRESS)
    text = BROKER.format(
        plain=PLAIN, secure=SECURE, address=ADDRESS, chain=made.chain, key=made.key
    )
    (folder / "mosquitto.conf").write_text(text)
    for path in (folder, made.chain, made.key):  # the broker gives up root
        shutil.chown(path, "mosquitto", "mosquitto")
    stage.line.network.folder.chmod(0o711)
    broker = stage.server([tool("mosquitto"), "-c", str(folder / "mosquitto.conf")], "mosquitto")
    broker.wait_for(lambda: listening(stage.line.server_pid, "tcp", SECURE), 10, "listening")
    tls = kind == "chat-mqtts"
    port = SECURE if tls else PLAIN
    where = ["-h", ADDRESS, "-p", str(port), "-k", "5"]
    where += ["--cafile", str(made.authority)] if tls else []

    def act(seconds: float) -> None:
        reader = stage.client(["mosquitto_sub", *where, "-i", "amal", "-t", "to/amal"], "hears")
        other_reader = stage.server(
            ["mosquitto_sub", *where, "-i", "omar", "-t", "to/omar"], "hears-too"
        )
        writer = stage.client(
            ["mosquitto_pub", *where, "-i", "amal-w", "-t", "to/omar", "-l"], "writes", talks=True
        )
        other = stage.server(
            ["mosquitto_pub", *where, "-i", "omar-w", "-t", "to/amal", "-l"], "answers", talks=True
        )
        stage.rest(0.5)
        for number in range(max(2, round(seconds / PAUSE_SECONDS))):
            (other if number % 2 else writer).say(LINES[number % len(LINES)])
            stage.rest(PAUSE_SECONDS)
        for one in (writer, other, reader, other_reader):
            one.end()

    speaks = "MQTT over TLS" if tls else "MQTT in the clear"
    return Act((Service("tcp", ADDRESS, port, f"mosquitto, {speaks}"),), act)
