# SPDX-License-Identifier: BSD-3-Clause
"""Evidence: what the taps saw of every packet, held against what the box wrote down of it.

A fate is proven where the taps bear it out: a packet that passed was seen to leave its sender, to
come in at the box and to arrive, octet by octet as it was sent; one that was dropped, lost or
answered by the box was seen to come in at the box and never arrived. Frames are joined by the
number in their MAC source and compared by content; a forged frame must carry the addresses and
ports of the packet that it answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.flow_table import Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.pump import FORGED_HERE, TAGGED
from midcall.testbed.live.network.taps import write_tap
from midcall.testbed.live.replay.endpoints import forged_kind
from midcall.testbed.live.replay.merge import Frames
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FORGED, LOST
from midcall.testbed.middlebox.inject import LETTER
from midcall.testbed.middlebox.rule_table import DOWN, UP
from midcall.testbed.replay.sides import CALLER

Numbers = NDArray[np.int64]

#: What the taps saw of one sending of a packet. Times in ns of the time of day, 0: not seen there.
#: times: 1 for a sending that left, 0 for one that did not.
SEEN = np.dtype(
    [
        ("due", "i8"),  # when its end had to put it on the wire
        ("sent", "i8"),  # tap at its sender's end
        ("box_in", "i8"),  # tap at the box, where it came in
        ("box_out", "i8"),  # the box's record of when it sent the packet on
        ("came", "i8"),  # tap at its receiver's end
        ("times", "i8"),  # how often it left
        ("reordered", "?"),  # came after one of its flow and direction that was sent later
        ("whole", "?"),  # the taps saw the very octets that were sent, wherever they saw it
        ("proven", "?"),  # the taps bear out the fate that the box wrote down
    ]
)

#: Taps by the interface (index in testbed.live.network.Ports), and the files they are saved as.
AT_CALLER, AT_BOX, BEHIND_BOX, AT_SERVER = 0, 1, 2, 3
FILES = ("caller", "box-caller-side", "box-server-side", "server")


class Record(NamedTuple):
    """What one run left behind, by row of its sendings (midcall.testbed.live.replay.endpoints).

    rows, store: of testbed.live.network.taps; frames: by row too; began: ns of the time of day;
    around: octets before a frame's IP packet; below: whether the kernel dealt with some packets
    before the box's tap.
    """

    rows: Records
    store: NDArray[np.uint8]
    frames: Frames
    played: Records
    log: Records
    side: Numbers
    flow: Numbers
    began: int
    around: int
    below: bool


def seen_by_taps(held: Record) -> Records:
    """Return SEEN[n]. Raises TestbedError where the taps contradict the box or an end."""
    out = np.zeros(len(held.side), SEEN)
    rows = held.rows[(held.rows["kind"] == TAGGED) & (held.rows["row"] >= 0)]
    packet, stamp = rows["row"].astype(np.int64), rows["stamp"]
    up = held.side[packet] == CALLER
    near, far = np.where(up, AT_CALLER, AT_SERVER), np.where(up, AT_SERVER, AT_CALLER)
    at_sender = rows["out"] & (rows["tap"] == near)
    at_box = ~rows["out"] & (rows["tap"] == np.where(up, AT_BOX, BEHIND_BOX))
    at_receiver = ~rows["out"] & (rows["tap"] == far)
    for name, where in (("sent", at_sender), ("box_in", at_box), ("came", at_receiver)):
        np.maximum.at(out[name], packet[where], stamp[where])
    np.add.at(out["times"], packet[at_sender], 1)
    out["whole"] = True
    out["whole"][packet[~rows["whole"]]] = False
    played = held.played
    out["due"] = np.where(played["due"] >= 0, played["due"] + held.began, 0)
    out["box_out"] = held.log["out_time"]
    out["reordered"] = reordered(held.flow * 2 + held.side, out["sent"], out["came"])
    out["proven"] = proven(held, out)
    return out


def proven(held: Record, seen: Records) -> NDArray[np.bool_]:
    """Return which packets' fates the taps bear out; nothing that was not sent has one."""
    fate = held.log["fate"]
    launched = held.played["due"] >= 0
    told = (held.log["times"] == seen["times"]) & (launched == seen["times"])
    entered = (seen["box_in"] >= seen["sent"]) | held.below
    passed = (fate == DELIVERED) & (seen["came"] >= seen["sent"])
    stopped = np.isin(fate, (DROPPED, FORGED, LOST)) & (seen["came"] == 0)
    sent = seen["times"] > 0
    return np.asarray(sent & told & seen["whole"] & entered & (passed | stopped))


def reordered(way: Numbers, sent: Numbers, came: Numbers) -> NDArray[np.bool_]:
    """Return which packets came after one of their flow and direction that was sent later."""
    out = np.zeros(len(way), bool)
    rows = np.flatnonzero((sent > 0) & (came > 0))
    rows = rows[np.lexsort((sent[rows], way[rows]))]
    for own in np.split(rows, np.flatnonzero(np.diff(way[rows])) + 1):
        later = np.minimum.accumulate(came[own][::-1])[::-1]
        out[own[:-1]] = came[own[:-1]] > later[1:]
    return out


def doubt(held: Record, seen: Records, doubtful: Numbers, name: str) -> TestbedError:
    """Return the error that packets whose fate is not proven make; name: of the first of them."""
    i = int(doubtful[0])
    row, log = seen[i], held.log[i]
    octets = "as sent" if row["whole"] else "changed"
    return TestbedError(
        f"the taps do not bear out what the box wrote down of {len(doubtful)} packets; the first "
        f"is {name}: fate {int(log['fate'])} after {int(log['times'])} of "
        f"{int(held.played['due'][i] >= 0)} sendings; taps: {int(row['times'])} left, "
        f"{'' if row['box_in'] else 'none '}came in at the box, "
        f"{'' if row['came'] else 'none '}arrived, octets {octets}"
    )


# ---- forged frames


def ends_of(frame: bytes, around: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return a frame's addresses and ports: sender's address and port, receiver's."""
    ip = frame[around:]
    if ip[0] >> 4 == 4:
        start, one, two = 4 * (ip[0] & 15), ip[12:16], ip[16:20]
    else:
        start, one, two = 40, ip[8:24], ip[24:40]
    return one, ip[start : start + 2], two, ip[start + 2 : start + 4]


def injected(held: Record) -> tuple[Records, NDArray[np.uint8]]:
    """Return the frames that the box injected and their octets: LETTER[k], by row of the sending.

    Times are ns of the time of day. Raises TestbedError where one does not fit to what it answers,
    or an end did not get it.
    """
    rows = held.rows[(held.rows["kind"] == FORGED_HERE) & ~held.rows["out"]]
    rows = rows[np.isin(rows["tap"], (AT_CALLER, AT_SERVER))]
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    letters = np.zeros(len(rows), LETTER)
    parts, free = [], 0
    for letter, row in zip(letters, rows, strict=True):
        at, size, packet = int(row["at"]), int(row["size"]), int(row["row"])
        octets = held.store[at : at + size]
        start = int(held.frames.at[packet])
        about = held.frames.data[start : start + int(held.frames.size[packet])].tobytes()
        one, other = ends_of(octets.tobytes(), held.around), ends_of(about, held.around)
        if one not in (other, (*other[2:], *other[:2])):
            raise TestbedError(
                f"a frame that came in answer to packet {packet + 1} has other addresses than it"
            )
        letter["at"], letter["length"], letter["time"] = free, size, row["stamp"]
        letter["toward"] = UP if row["tap"] == AT_SERVER else DOWN
        letter["kind"] = forged_kind(held.store, at, at + size, held.around)
        letter["packet"], letter["rule"] = packet, held.log["rule"][packet]
        parts.append(octets)
        free += size
    counts = np.bincount(letters["packet"], minlength=len(held.side))
    if not np.array_equal(counts, held.played["letters"]):
        raise TestbedError("the ends got other forged frames than the taps saw; the run is void")
    return letters, np.concatenate(parts) if parts else np.zeros(0, np.uint8)


# ---- files


def save(
    folder: Path, held: Record, seen: Records, rules: tuple[str, ...], names: list[str]
) -> tuple[Path, ...]:
    """Write one pcapng file per tap; every frame's comment tells its packet and fate.

    names: what each packet of the script is called. Returns the files.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def remark(row: np.void) -> str:
        i = int(row["row"])
        if i < 0:
            return "not of this run"
        rule = int(held.log["rule"][i])
        by = f" by rule {rules[rule]}" if rule >= 0 else ""
        if row["kind"] == FORGED_HERE:
            return f"injected{by} in answer to {names[i]}"
        return f"{names[i]}: {fate_words(int(held.log['fate'][i]), by, seen[i])}"

    paths = []
    for tap, word in enumerate(FILES):
        path = folder / f"{word}.pcapng"
        write_tap(path, held.rows[held.rows["tap"] == tap], held.store, remark)
        paths.append(path)
    return tuple(paths)


def fate_words(fate: int, by: str, seen: np.void) -> str:
    """Return a packet's fate in words."""
    if fate == DELIVERED:
        added = (int(seen["came"]) - int(seen["box_in"])) / 1000
        late = ", reordered" if seen["reordered"] else ""
        return f"passed{by}, {added:.0f} us after it came in at the box{late}"
    return {
        DROPPED: f"dropped{by or ' because the box could not read it'}",
        FORGED: f"kept{by}, which answered it",
        LOST: "lost by the access link",
    }.get(fate, "not sent")
