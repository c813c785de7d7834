# SPDX-License-Identifier: BSD-3-Clause
"""Audio of a direction, from sizes and times: lost packets, late packets, pauses and jitter.

Audio codecs send a packet every 10 to 120 ms: the beat. A direction follows when the next audio
packet is due. Each packet that can be audio is then one of these:

- on the beat: it comes when it is due, or up to LATEST of a beat later. The time of the next one is
  due a beat after this one was; it follows early packets at once and late ones slowly, because a
  network delays packets and never sends them before their time.
- after missing beats: it comes later than that. The beats before it are missing, unless it follows
  a pause (pauses.py): a gap of PAUSE beats or more where sizes vary, or any gap after comfort
  noise, whose size is learned from the packets before long gaps. Some codecs send comfort noise as
  long as speech: gaps of one length that repeat show their pauses. Where neither is known, a gap
  of up to OUTAGE beats after a packet of the usual size is no pause; but one of DOUBTFUL beats or
  more can be either where sizes vary, unless the audio went on for UNPAUSED before it. A gap that
  ends in a burst is no pause, unless comfort noise came before it.
- early: if beats are missing, their packets were only late (with little jitter: in a burst after a
  stall, or of a size that was not off the beat), and are no longer missing; else the packet is none
  of the audio. With little jitter, one that is on the beat shows that the packet before it, which
  came too early, was none of the audio.
- something else (RTCP, STUN, small video packets): packets of that size are often off the beat, or
  much commoner than packets of the sizes next to it, but rare; or the size is unlike the audio and
  the packet is off the beat. WebRTC reports what arrived in up to 20 such packets a second. One
  that comes when audio was due fills that beat if it stays empty. A packet that ends a pause, and
  that no other follows in the next beats, is one of these, too.

So every beat counts once, and errors cancel out: a packet that is taken for another one makes the
next one early. Where all packets have one size, every gap up to LONGEST beats is an outage, and
counted as lost. A codec that pauses does not tell an outage from a pause, so most of its losses of
PAUSE - 1 packets in a row or more are not counted.

The constants were chosen by hand; docs/explanation/quality.md says how they were tested.
Interarrival jitter is that of RFC 3550, 6.4.1, with the beat in place of the RTP clock.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.classifier.quality.cadence import (
    FITS,
    LONG,
    REGULAR,
    check_cadence,
    is_calm,
    learn_cadence,
)
from midcall.classifier.quality.pauses import (
    NOISE,
    NOISE_KNOWN,
    follow_group,
    is_due_in_pause,
    is_first_noise,
    is_inside_group,
    is_noise,
    is_periodic,
    is_repeated,
    is_small,
    is_within_pause,
    learn_noise,
    learn_period,
    lost_in_pause,
)
from midcall.classifier.quality.tracks import SIZES

#: Beats without a packet that can be a pause; beats from which they are one with any codec.
PAUSE, LONGEST = 5, 150
#: Beats up to which a gap is an outage where comfort noise is not known, or where at least BURST
#: packets follow at once, less than an eighth of a beat apart.
OUTAGE, BURST = 25, 2
#: A gap of at least DOUBTFUL beats may be a pause or an outage where sizes vary, unless the audio
#: before it had none for UNPAUSED ns: such a codec does not pause.
DOUBTFUL, UNPAUSED = 10, 20_000_000_000
#: ns of a gap of fewer beats than PAUSE that may be a pause where the codec pauses and its comfort
#: noise is as long as speech.
BRIEF = 150_000_000
#: A packet is on the beat up to this many eighths of a beat after it was due.
LATEST = 6
#: The time of the next packet follows a packet that is early, or late, by its delay >> these.
EARLIER, LATER = 2, 4
#: A packet is exactly on the beat within the smaller of a quarter of a beat, and this many times
#: the jitter plus a sixteenth of a beat.
NARROW = 4
#: Packets on the beat after which a missing packet is lost, and more with jitter.
GIVEN_UP = 2
#: A size is none of the audio if at most a HALF-th of the last packets had it, and they were off
#: the beat this often (twice for each, less one for each on the beat; at most MOST): ALWAYS where
#: more than MANY had it, else OFF_BEAT; or once, if it is a spike: at least FEW packets, and a
#: SPIKE-th of those of the sizes up to AROUND bytes away.
OFF_BEAT, ALWAYS, MOST = 3, 5, 8
FEW, MANY, HALF, SPIKE, AROUND = 3, 32, 2, 3, 8
#: Seconds after which the counts of sizes are halved; the largest count.
HALVED, FULL = 8, 255
#: Sizes of audio deviate from their mean by more than this part of it: the codec can pause.
VARIES = 30
#: The jitter is little below this part of a beat.
STILL = 8
#: Strays (each counts 2, a packet on the beat takes 1 away) after which the audio has a new size,
#: and bytes that are added to the deviation then.
STRAYS, WIDER = 8, 10.0
#: A size that differs from that of the last audio packet by at most so many tenths is like the
#: audio, too; such a packet on the beat fills it, although its size is that of something else.
LIKE_SIZE, NEXT_SIZE = 2, 3
#: Beats without a packet after which the packet that ended a pause was none of the audio.
ALONE = 2
#: The jitter is so little below this part of a beat that a late packet comes at most this part of
#: a beat after the one that shows its beat as missing, unless its size is that of audio.
STEADY, BURST_GAP = 8, 6


@inlined
def observe_audio(track: Any, size: int, time: int) -> None:
    """Follow a packet that can be audio: `size` payload bytes at `time` (ns)."""
    cadence = I(track["cadence"]) * 1000
    since = time - I(track["seen"]) if I(track["seen"]) else I(0)
    sizes = track["counted_sizes"]
    if I(sizes[slot_of(size)]) < FULL:
        sizes[slot_of(size)] += 1
        track["sized"] += 1
    if I(track["checked"]) == 0:
        track["checked"] = time
    short = 2 * size < track["mean"]
    apart = since
    if not short:
        apart = time - I(track["longer_seen"]) if I(track["longer_seen"]) else I(0)
        track["longer_seen"] = time
    if cadence == 0:
        track["seen"] = time
        observe_unknown(track, size, time, apart)
        return
    track["on_time"] = 1 if 100 * abs(since - cadence) <= FITS * cadence else 0
    if track["on_time"] or 100 * abs(apart - cadence) <= FITS * cadence:
        track["fitting"] += 1
        track["run"] = 0
        track["seen"] = time
    elif not (short and is_between_others(track)):
        track["seen"] = time
        if since > LONG:
            track["long_gaps"] += 1
        else:
            track["unfit"] += 1
        if I(track["place"]) == 0 or not is_noise(track, I(track["before"])):
            if not short:
                learn_cadence(track, apart)
        cadence = I(track["cadence"]) * 1000
    place(track, size, time, cadence)


@inlined
def is_between_others(track: Any) -> bool:
    """Return whether enough gaps of the second fit the cadence to leave out a short packet."""
    noise = is_noise(track, I(track["before"]))
    return not noise and REGULAR * I(track["fitting"]) >= I(track["unfit"])


@kernel
def observe_unknown(track: Any, size: int, time: int, since: int) -> None:
    """Count a packet while the cadence is unknown; since: ns from the one before, 0: none."""
    if since:
        learn_cadence(track, since)
        track["longest"] = max(I(track["longest"]), since)
    track["audio"] += 1
    learn_size(track, size)


@inlined
def place(track: Any, size: int, time: int, cadence: int) -> None:
    """Decide what a packet is, and count the beats before it that have no packet."""
    if I(track["last"]) == 0:
        track["last"], track["due"], track["before"] = time, time + cadence, size
        track["late"] = track["counted"] = track["given_up"] = track["paused"] = 0
        track["place"] = track["paused_at"] = 0
        track["since"] = time
        track["audio"] += 1
        learn_size(track, size)
        return
    early = time - I(track["due"])  # below 0: early
    like = is_like(track, size) or is_noise(track, size)
    in_time = -cadence < 2 * early and 8 * early < LATEST * cadence
    if like and in_time and I(track["off_beat"][slot_of(size)]) == 0:
        take(track, size, time, cadence, early)
    else:
        consider(track, size, time, cadence, early, like)


@kernel
def consider(track: Any, size: int, time: int, cadence: int, early: int, like: bool) -> None:
    """Decide what a packet is that is not plainly the next one of the audio.

    early: ns after it was due; like: its size is like that of the audio.
    """
    gap = time - I(track["last"])
    score, slot = track["off_beat"], slot_of(size)
    beats = (early + (8 - LATEST) * cadence // 8) // cadence  # beats before it without a packet
    rest = early - beats * cadence
    near = abs(rest) < min(cadence >> 2, (NARROW * I(track["jitter"]) >> 4) + (cadence >> 4))
    calm = is_calm(track)  # else packets off the beat are no evidence
    other = calm and is_other(track, size)
    paused = gap >= PAUSE * cadence
    due = paused and is_due_in_pause(track, size, beats + 1)
    first = paused and near and calm and is_first_noise(track, size, time, cadence)
    if (other and not (due and near)) or not (
        like or due or first or (near and (not paused or is_within_pause(track, size)))
    ):
        fills = 4 * abs(rest) < cadence if like else near and is_next(track, size, NEXT_SIZE)
        if beats >= 0 and (not other or fills):
            track["filler"] += 1
        if near and beats >= 0:
            score[slot] = max(I(score[slot]) - 1, 0)
            if beats == 0 and is_small(track, size) and not is_noise(track, I(track["before"])):
                track["before"] = size  # comfort noise, if a pause follows
        elif calm and not track["on_time"]:
            count_off_beat(track, size)
        if not other:
            count_stray(track, size)
        return
    if beats < 0 and 2 * early <= -cadence:
        take_early(track, size, time, cadence, gap, like)
        return
    score[slot] = max(I(score[slot]) - 1, 0)
    if beats <= 0:
        take(track, size, time, cadence, early)
        track["unlike"] = 0 if like else size
    else:
        take_after(track, size, time, cadence, gap, beats, rest)
        track["unlike"] = 0 if like else size


@inlined
def take(track: Any, size: int, time: int, cadence: int, early: int) -> None:
    """Add a packet on the beat, `early` ns after it was due."""
    gap = time - I(track["last"])
    hear(track, size, time, gap, abs(gap - cadence))
    track["off"] = early
    track["due"] += cadence + (early >> (EARLIER if early < 0 else LATER))
    if I(track["stray"]):
        track["stray"] -= 1
    if I(track["given_up"]):
        track["given_up"] -= 1
        track["paused_at"] = 0
        if I(track["given_up"]) == 0:
            track["late"] = track["counted"] = track["paused"] = 0
    if I(track["place"]):
        follow_group(track)
    if not is_noise(track, size):
        learn_size(track, size)


@inlined
def hear(track: Any, size: int, time: int, gap: int, shift: int) -> None:
    """Count an audio packet `gap` ns after the last one, `shift` ns from where that one puts it."""
    track["longest"] = max(I(track["longest"]), gap)
    jitter = I(track["jitter"])
    track["jitter"] = jitter + shift - ((jitter + 8) >> 4)
    track["last"], track["before"] = time, size
    track["unlike"] = track["filler"] = 0
    track["audio"] += 1
    track["spoken"] += 1


@kernel
def take_early(track: Any, size: int, time: int, cadence: int, gap: int, like: bool) -> None:
    """Add a packet that came at least half a beat before it was due."""
    off = time - I(track["due"]) + cadence  # from the beat of the last one
    nearer = abs(off) < -I(track["off"]) and abs(size - I(track["before"])) > NOISE
    if nearer and STILL * (I(track["jitter"]) >> 4) < cadence:
        count_off_beat(track, I(track["before"]))
        track["last"], track["before"], track["unlike"] = time, size, 0
        track["due"] += off
        track["off"] = off
        return
    mistaken = like and I(track["unlike"]) > 0  # the last one was something else, this one is audio
    if I(track["late"]) > 0 and (
        BURST_GAP * gap < cadence
        or not is_steady(track)
        or (like and I(track["off_beat"][slot_of(size)]) == 0)
    ):
        if mistaken and 16 * gap >= cadence:
            count_off_beat(track, I(track["unlike"]))
            track["before"], track["unlike"] = size, 0
            return
        take_back(track, cadence, gap)
        hear(track, size, time, gap, min(abs(time - I(track["due"])), cadence))
        return
    track["extra"] += 1
    if not is_calm(track):
        return
    if mistaken:
        size, track["before"] = I(track["unlike"]), size
    count_off_beat(track, size)


@inlined
def take_back(track: Any, cadence: int, gap: int) -> None:
    """Take one of the beats without a packet back; a burst shows that a pause was none."""
    track["late"] -= 1
    paused = I(track["paused"])
    if 0 < paused <= OUTAGE:
        if 8 * gap < cadence and paused - I(track["late"]) >= BURST:
            track["counted"], track["paused"] = track["late"], 0
            track["missing"] += track["late"]
    elif I(track["counted"]) > 0:
        track["counted"] -= 1
        track["missing"] -= 1


@inlined
def count_off_beat(track: Any, size: int) -> None:
    """Count a packet of a size that was off the beat."""
    score, slot = track["off_beat"], slot_of(size)
    score[slot] = min(I(score[slot]) + 2, MOST)


@kernel
def take_after(
    track: Any, size: int, time: int, cadence: int, gap: int, beats: int, rest: int
) -> None:
    """Add a packet after `beats` beats without one, `rest` ns after it was due then."""
    before = I(track["last"])
    if I(track["paused_at"]) and beats >= ALONE:  # the last packet was no audio: the pause goes on
        before = I(track["paused_at"])
        gap = time - before
        beats = (gap + cadence // 2) // cadence - 1
        rest = gap - (beats + 1) * cadence
        count_off_beat(track, I(track["before"]))
        track["before"], track["place"] = track["noise"], track["group"]
        track["audio"] -= 1
    again = is_repeated(track, beats + 1)
    pause = is_pause(track, cadence, size, gap, beats, again)
    if gap >= PAUSE * cadence:
        track["since"] = time
    track["given_up"] = GIVEN_UP + (I(track["jitter"]) >> 4) * 8 // cadence
    if pause:
        lost = lost_in_pause(track, beats + 1)
        alone = is_periodic(track) and I(track["place"]) == 0 and not is_noise(track, size)
        track["paused_at"] = before if alone else 0
        track["late"], track["counted"] = beats, lost
        track["missing"] += lost
        track["paused"] = 0 if is_noise(track, I(track["before"])) else beats
        track["due"] = time + cadence
        track["longest"] = max(I(track["longest"]), gap)
        track["audio"] += 1
        track["spoken"] += 1 if again or is_noise(track, size) else 0
        track["last"], track["before"] = time, size
        track["filler"] = 0
        return
    track["paused"] = track["paused_at"] = 0
    first = I(track["periods"]) > 0 and beats + 1 == I(track["period"])
    track["place"] = 1 if first else 0
    filled = min(I(track["filler"]), beats)
    track["late"] += beats
    track["counted"] += beats - filled
    track["missing"] += beats - filled
    track["audio"] += filled
    track["spoken"] += filled
    hear(track, size, time, gap, abs(rest))
    track["off"] = rest
    track["due"] += (beats + 1) * cadence + rest // 8


@inlined
def is_pause(track: Any, cadence: int, size: int, gap: int, beats: int, again: bool) -> bool:
    """Return whether the sender was silent in a gap (ns); learn the size of comfort noise.

    size: of the packet that ends the gap; again: the gap before was as long.
    """
    before, known = I(track["before"]), I(track["pauses"]) >= NOISE_KNOWN
    noise = abs(before - I(track["noise"])) <= NOISE
    if 2 * gap < (2 * PAUSE - 1) * cadence:
        if gap >= BRIEF and beats > 1 and is_periodic(track) and not known:
            track["doubts"] += 1
        return is_inside_group(track) or (noise and known and not is_noise(track, size))
    varies = VARIES * track["spread"] > track["mean"] or known
    small = is_small(track, before)
    if small:
        learn_noise(track, before)
    known = I(track["pauses"]) >= NOISE_KNOWN
    if small or (varies and not known):
        learn_period(track, beats + 1)
    if again and not known:  # codecs repeat gaps, networks do not
        track["missing"] -= I(track["counted"])  # the gap before was no outage
        track["late"] = track["counted"] = 0
        return True
    known = known or is_periodic(track)
    on_beat = I(track["given_up"]) == 0  # the packets before the gap
    outage = beats <= OUTAGE and on_beat and not small and not known
    if outage and varies and beats >= DOUBTFUL and before_gap(track) < UNPAUSED:
        track["doubts"] += 1  # no loss is known of this second
        track["spoken"] += 1
        return True
    return ((varies or small) and not outage) or beats > LONGEST


@inlined
def before_gap(track: Any) -> int:
    """Return ns of audio without a long gap before the last packet."""
    return I(track["last"]) - I(track["since"])


@inlined
def count_stray(track: Any, size: int) -> None:
    """Count a packet of a size unlike the audio; after some of them the audio has a new size."""
    track["stray"] += 2
    if I(track["stray"]) > STRAYS:
        track["stray"] = 0
        track["mean"], track["spread"] = size, track["spread"] + WIDER


@inlined
def is_like(track: Any, size: int) -> bool:
    """Return whether a size is like that of the last audio packets."""
    near = abs(size - track["mean"]) <= 2.5 * track["spread"] + 6
    return bool(near or is_next(track, size, LIKE_SIZE))


@inlined
def is_next(track: Any, size: int, tenths: int) -> bool:
    """Return whether a size differs by at most some tenths from that of the last audio packet."""
    return 10 * abs(size - I(track["before"])) <= tenths * I(track["before"])


@inlined
def is_steady(track: Any) -> bool:
    """Return whether the jitter is far below the beat."""
    return STEADY * (I(track["jitter"]) >> 4) < 1000 * I(track["cadence"])


@inlined
def slot_of(size: int) -> int:
    """Return the slot of a size: below 192 bytes each has its own, above eight share one."""
    return size if size < 192 else min(192 + ((size - 192) >> 3), SIZES - 1)


@inlined
def is_other(track: Any, size: int) -> bool:
    """Return whether a size is none of the audio: often off the beat, or rare and a spike."""
    sizes, slot = track["counted_sizes"], slot_of(size)
    count, score = I(sizes[slot]), I(track["off_beat"][slot])
    if score == 0 or HALF * count > I(track["sized"]):
        return False
    if count > MANY:
        return score >= ALWAYS
    if score >= OFF_BEAT:
        return True
    around = -count
    for one in range(max(slot - AROUND, 0), min(slot + AROUND + 1, SIZES)):
        around += I(sizes[one])
    return bool(count >= FEW and SPIKE * count > around)


@inlined
def learn_size(track: Any, size: int) -> None:
    """Follow the sizes of audio packets: their mean and mean deviation."""
    if track["mean"] == 0:
        track["mean"] = size
    track["spread"] += (abs(size - track["mean"]) - track["spread"]) / 16
    track["mean"] += (size - track["mean"]) / 16


@inlined
def end_second(track: Any) -> None:
    """Check the cadence, and let the counts of sizes decay."""
    check_cadence(track)
    track["halved"] += 1
    if I(track["halved"]) >= HALVED:
        track["halved"] = 0
        sizes, sized = track["counted_sizes"], I(0)
        for one in range(SIZES):
            sizes[one] >>= 1
            sized += I(sizes[one])
        track["sized"] = sized
