# SPDX-License-Identifier: BSD-3-Clause
"""nftables and iptables decide a capture's packets in a namespace of the lab, and leave nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from midcall.experiments.engines import prove
from midcall.testbed.live.network.network import RUNS

pytestmark = pytest.mark.live

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
CAPTURES = [str(SAMPLES / "sample-whatsapp-audio.pcap"), str(SAMPLES / "sample-web.pcap")]
PROGRAMS = {"nftables": "nft", "iptables": "iptables-restore"}


@pytest.fixture(params=["nftables", "iptables"])
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(PROGRAMS[name]) is None:
        pytest.skip(f"{PROGRAMS[name]} is not installed")
    return name


def test_the_kernel_does_what_the_box_does_and_leaves_nothing(engine: str, tmp_path: Path) -> None:
    before = sorted(RUNS.glob("mc*"))
    for policy in ("mechanisms/upstream", "mechanisms/downstream"):
        proof = prove.prove(policy, engine, CAPTURES, tmp_path / "d.pcapng")
        assert proof["packets"] > 100
        assert proof["differs"] == 0
        assert proof["exact"]
    assert sorted(RUNS.glob("mc*")) == before


def test_a_flow_stays_dropped_in_nftables_and_not_in_iptables(engine: str, tmp_path: Path) -> None:
    out = tmp_path / "d.pcapng"
    proof = prove.prove("mechanisms/stun", engine, CAPTURES, out)
    if engine == "nftables":
        assert proof["differs"] == 0
    else:  # netfilter forgets a connection whose first packet is dropped
        assert proof["smallest"] == {"file": str(out), "packets": 2}
        assert "forgets a connection" in proof["reason"]
