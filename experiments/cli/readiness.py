# SPDX-License-Identifier: BSD-3-Clause
"""Readiness of the live backend on this machine: the lines of `midcall doctor` about it."""

from __future__ import annotations

import os
import shutil
import subprocess

from midcall.errors import TestbedError
from midcall.experiments.cli.doctor import OPTIONAL, Finding
from midcall.experiments.cli.programs import bystanders
from midcall.testbed.live.devices import blackbox
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.offload import bpf
from midcall.testbed.live.offload.handover import Offload
from midcall.testbed.live.offload.xdp import shortcut
from midcall.testbed.programs.calls import caller
from midcall.testbed.programs.calls.caller import DRIVERS


def findings() -> list[Finding]:
    """Check everything that only the live backend needs or can use."""
    boxes = [_middlebox(kind) for kind in ("suricata", "nfqueue")]
    return [_live(), _offload(), *boxes, *map(_caller, DRIVERS), *bystanders(), _docker()]


def _live() -> Finding:
    """Check whether a live network can be created on this machine."""
    missing = networks.missing()
    if missing:
        return Finding("live", OPTIONAL, "; ".join(missing))
    return Finding("live", "ok", "root, network namespaces and Mininet")


def _offload() -> Finding:
    """Check, with one attempt, whether a live box can hand settled flows to the kernel."""
    name, use = "live offload", "settled flows dropped or redirected by an XDP program"
    if os.geteuid() != 0:
        return Finding(name, OPTIONAL, f"not tried without root, needed for {use}")
    try:
        with Offload(capacity=1) as one:
            os.close(bpf.load(shortcut(one.shared, 1)))
    except TestbedError as error:
        return Finding(name, OPTIONAL, str(error).splitlines()[0])
    return Finding(name, "ok", use)


def _middlebox(kind: str) -> Finding:
    """Check whether a third-party middlebox can be used in a live network."""
    name = f"live {kind}"
    if missing := blackbox.missing(kind):
        return Finding(name, OPTIONAL, "; ".join(missing))
    return Finding(name, "ok", f'middlebox = "{kind}"')


def _caller(name: str) -> Finding:
    """Check whether a program can make live calls."""
    if missing := caller.missing(name):
        return Finding(f"caller {name}", OPTIONAL, "; ".join(missing))
    return Finding(f"caller {name}", "ok", "makes live calls")


def _docker() -> Finding:
    """Check whether the Docker image can be built and run."""
    use = "the lab in a container (make docker-experiment)"
    path = shutil.which("docker")
    if path is None:
        return Finding(
            "docker", OPTIONAL, f"not found, needed for {use}: apt-get install docker.io"
        )
    try:
        done = subprocess.run(
            [path, "version", "--format", "{{.Server.Version}}"],
            capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
        answers = done.returncode == 0
    except subprocess.TimeoutExpired:
        answers = False
    if not answers:
        return Finding("docker", OPTIONAL, f"{path}, but no engine answers: start it, or sudo")
    return Finding("docker", "ok", f"{path}, engine {done.stdout.strip()}")
