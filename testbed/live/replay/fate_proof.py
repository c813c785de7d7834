# SPDX-License-Identifier: BSD-3-Clause
"""Compare what the taps recorded of every packet with what the box logged about it.

A fate is proven where the tap traces confirm it. A packet that passed must appear at its sender, at
the box and at its receiver, octet by octet as it was sent. A packet that was dropped, lost or
answered by the box must appear at the box and not at its receiver. Frames are matched by the number
in their MAC source and compared by content; a forged frame must carry the addresses and ports of
the packet that it answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import ICMP, ICMP6
from midcall.classifier.state.flow_table import Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.pump import FORGED_HERE, TAGGED
from midcall.testbed.live.network.taps import write_tap
from midcall.testbed.live.replay.endpoints import forged_kind
from midcall.testbed.live.replay.merge import Frames
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FORGED, LOST
from midcall.testbed.middlebox.inject import LETTER, copy_kind
from midcall.testbed.middlebox.marking import write_dscp
from midcall.testbed.middlebox.rule_table import DOWN, UP
from midcall.testbed.replay.sides import CALLER

Numbers = NDArray[np.int64]

#: What the taps recorded of one sending of a packet. Times in ns of the time of day, 0: not seen
#: there. times: 1 for a sending that left, 0 for one that did not.
SEEN = np.dtype(
    [
        ("due", "i8"),  # when its end was due to put it on the wire
        ("sent", "i8"),  # tap at its sender's end
        ("box_in", "i8"),  # tap at the box, where it came in
        ("box_out", "i8"),  # when the box forwarded the packet, by its own log
        ("came", "i8"),  # tap at its receiver's end
        ("times", "i8"),  # how often it left
        ("reordered", "?"),  # came after one of its flow and direction that was sent later
        ("whole", "?"),  # every tap that saw it recorded the octets that were sent
        ("proven", "?"),  # the tap traces confirm the fate that the box logged
    ]
)

#: Taps by the interface (index in testbed.live.network.Ports), and the files they are saved as.
AT_CALLER, AT_BOX, BEHIND_BOX, AT_SERVER = 0, 1, 2, 3
FILES = ("caller", "box-caller-side", "box-server-side", "server")


class Record(NamedTuple):
    """The records of one run, by row of its sendings (midcall.testbed.live.replay.endpoints).

    rows, store: of testbed.live.network.taps; frames: by row too; began: ns of the time of day;
    around: octets before a frame's IP packet; below: whether the kernel handled some packets
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


def seen_by_taps(record: Record) -> Records:
    """Return SEEN[n]. Raises TestbedError where the taps contradict the box or an end."""
    out = np.zeros(len(record.side), SEEN)
    rows = record.rows[(record.rows["kind"] == TAGGED) & (record.rows["row"] >= 0)]
    packet, stamp = rows["row"].astype(np.int64), rows["stamp"]
    up = record.side[packet] == CALLER
    sender_tap = np.where(up, AT_CALLER, AT_SERVER)
    receiver_tap = np.where(up, AT_SERVER, AT_CALLER)
    at_sender = rows["out"] & (rows["tap"] == sender_tap)
    at_box = ~rows["out"] & (rows["tap"] == np.where(up, AT_BOX, BEHIND_BOX))
    at_receiver = ~rows["out"] & (rows["tap"] == receiver_tap)
    for name, at_tap in (("sent", at_sender), ("box_in", at_box), ("came", at_receiver)):
        np.maximum.at(out[name], packet[at_tap], stamp[at_tap])
    np.add.at(out["times"], packet[at_sender], 1)
    out["whole"] = True
    changed = np.flatnonzero(~rows["whole"])
    for at in changed:
        if record.log["mark"][packet[at]] == 0 or not is_remarked(record, rows[at]):
            out["whole"][packet[at]] = False
    played = record.played
    out["due"] = np.where(played["due"] >= 0, played["due"] + record.began, 0)
    out["box_out"] = record.log["out_time"]
    out["reordered"] = reordered(record.flow * 2 + record.side, out["sent"], out["came"])
    out["proven"] = proven(record, out)
    return out


def is_remarked(record: Record, row: np.void) -> bool:
    """Tell whether a frame is its packet's, but for the code point that the box's log says."""
    number, at, size = int(row["row"]), int(row["at"]), int(row["size"])
    start, whole = int(record.frames.at[number]), int(record.frames.size[number])
    sent = record.frames.data[start : start + whole].copy()
    version = int(sent[record.around]) >> 4
    write_dscp(sent, record.around, version, int(record.log["mark"][number]) - 1)
    got = record.store[at : at + size]
    keep = np.r_[0:8, 12:whole]  # a sending's number stands between
    return size == whole and bool((got[keep] == sent[keep]).all())


def proven(record: Record, seen: Records) -> NDArray[np.bool_]:
    """Return a mask, bool[n], of packets whose fate the tap traces confirm.

    Packets that were not sent are never confirmed.
    """
    fate = record.log["fate"]
    launched = record.played["due"] >= 0
    counts_agree = (record.log["times"] == seen["times"]) & (launched == seen["times"])
    entered = (seen["box_in"] >= seen["sent"]) | record.below
    passed = (fate == DELIVERED) & (seen["came"] >= seen["sent"])
    stopped = np.isin(fate, (DROPPED, FORGED, LOST)) & (seen["came"] == 0)
    sent = seen["times"] > 0
    return np.asarray(sent & counts_agree & seen["whole"] & entered & (passed | stopped))


def reordered(direction: Numbers, sent: Numbers, came: Numbers) -> NDArray[np.bool_]:
    """Return bool[n]: packets that arrived after one of their flow and direction sent later.

    direction: flow and direction of each packet as one number; sent, came: ns, 0: not seen.
    """
    out = np.zeros(len(direction), bool)
    rows = np.flatnonzero((sent > 0) & (came > 0))
    rows = rows[np.lexsort((sent[rows], direction[rows]))]
    for members in np.split(rows, np.flatnonzero(np.diff(direction[rows])) + 1):
        earliest_later = np.minimum.accumulate(came[members][::-1])[::-1]
        out[members[:-1]] = came[members[:-1]] > earliest_later[1:]
    return out


def unproven_error(record: Record, seen: Records, unproven: Numbers, name: str) -> TestbedError:
    """Return the error for packets whose fate is not proven; name: of the first of them."""
    i = int(unproven[0])
    row, log = seen[i], record.log[i]
    octets = "as sent" if row["whole"] else "changed"
    return TestbedError(
        f"the tap traces do not confirm the box's log for {len(unproven)} packets; the first "
        f"is {name}: fate {int(log['fate'])} after {int(log['times'])} of "
        f"{int(record.played['due'][i] >= 0)} sendings; taps: {int(row['times'])} left, "
        f"{'' if row['box_in'] else 'none '}came in at the box, "
        f"{'' if row['came'] else 'none '}arrived, octets {octets}"
    )


# ---- forged frames


def ends_of(frame: bytes, around: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the sender's address and port, then the receiver's, of a frame."""
    ip = frame[around:]
    if ip[0] >> 4 == 4:
        start, source, target = 4 * (ip[0] & 15), ip[12:16], ip[16:20]
    else:
        start, source, target = 40, ip[8:24], ip[24:40]
    return source, ip[start : start + 2], target, ip[start + 2 : start + 4]


def is_icmp(frame: bytes, around: int) -> bool:
    """Tell whether a frame carries ICMP or ICMPv6."""
    ip = frame[around:]
    return (ip[9] if ip[0] >> 4 == 4 else ip[6]) in (ICMP, ICMP6)


def injected(record: Record) -> tuple[Records, NDArray[np.uint8]]:
    """Return the frames that the box injected and their octets: LETTER[k], by row of the sending.

    Times are ns of the time of day. Raises TestbedError where a frame does not match the packet
    that it answers, or an end did not receive it.
    """
    rows = record.rows[(record.rows["kind"] == FORGED_HERE) & ~record.rows["out"]]
    rows = rows[np.isin(rows["tap"], (AT_CALLER, AT_SERVER))]
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    letters = np.zeros(len(rows), LETTER)
    parts, free = [], 0
    for letter, row in zip(letters, rows, strict=True):
        at, size, packet = int(row["at"]), int(row["size"]), int(row["row"])
        octets = record.store[at : at + size]
        start = int(record.frames.at[packet])
        end = start + int(record.frames.size[packet])
        answered = record.frames.data[start:end].tobytes()
        frame_ends = ends_of(octets.tobytes(), record.around)
        answered_ends = ends_of(answered, record.around)
        if is_icmp(octets.tobytes(), record.around):  # it has no ports
            frame_ends = (frame_ends[0], answered_ends[3], frame_ends[2], answered_ends[1])
        if frame_ends not in (answered_ends, (*answered_ends[2:], *answered_ends[:2])):
            raise TestbedError(
                f"a frame that came in answer to packet {packet + 1} has other addresses than it"
            )
        letter["at"], letter["length"], letter["time"] = free, size, row["stamp"]
        letter["toward"] = UP if row["tap"] == AT_SERVER else DOWN
        kind = copy_kind(record.store, at, at + size, record.frames.data, start, end - start)
        if kind < 0:
            kind = forged_kind(record.store, at, at + size, record.around)
        letter["kind"] = kind
        letter["packet"], letter["rule"] = packet, record.log["rule"][packet]
        parts.append(octets)
        free += size
    counts = np.bincount(letters["packet"], minlength=len(record.side))
    if not np.array_equal(counts, record.played["letters"]):
        raise TestbedError("the ends got other forged frames than the taps saw; the run is void")
    return letters, np.concatenate(parts) if parts else np.zeros(0, np.uint8)


# ---- files


def save(
    folder: Path, record: Record, seen: Records, rules: tuple[str, ...], names: list[str]
) -> tuple[Path, ...]:
    """Write one pcapng file per tap; every frame's comment names its packet and fate.

    names: the name of each packet of the script. Returns the paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def frame_comment(row: np.void) -> str:
        i = int(row["row"])
        if i < 0:
            return "not of this run"
        rule = int(record.log["rule"][i])
        by = f" by rule {rules[rule]}" if rule >= 0 else ""
        if row["kind"] == FORGED_HERE:
            return f"injected{by} in answer to {names[i]}"
        return f"{names[i]}: {fate_words(int(record.log['fate'][i]), by, seen[i])}"

    paths = []
    for tap, word in enumerate(FILES):
        path = folder / f"{word}.pcapng"
        write_tap(path, record.rows[record.rows["tap"] == tap], record.store, frame_comment)
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
