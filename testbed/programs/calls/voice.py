# SPDX-License-Identifier: BSD-3-Clause
"""The voice of a SIP call: the audio that one end plays, and how much of it the other receives.

The reference is a tone that varies like syllables and is never silent, 8 kHz, 16 bit. The recording
at the other end is measured in windows of one packet (20 ms): a silent window was not received, or
its concealment had faded out. This counts the seconds that arrived; it is no quality score.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE, WINDOW_S = 8000, 0.02
WINDOW = int(RATE * WINDOW_S)
#: Largest and smallest amplitude of the reference, of 32768, and the RMS limit of silence.
LOUD, SOFT, SILENCE = 9000, 4000, 500


def reference(seconds: float) -> NDArray[np.int16]:
    """Return the reference, int16[samples]."""
    t = np.arange(int(seconds * RATE)) / RATE
    syllables = SOFT + (LOUD - SOFT) * (1 + np.sin(2 * np.pi * 4 * t)) / 2
    pitch = 180 * t + 3 * np.sin(2 * np.pi * 1.3 * t)
    return np.asarray(syllables * np.sin(2 * np.pi * pitch), np.int16)


def mu_law(samples: NDArray[np.int16]) -> bytes:
    """Return samples in G.711's µ-law (ITU-T G.711 table 2a), an octet each."""
    value = samples.astype(np.int64)
    size = np.minimum(np.abs(value), 32635) + 132
    exponent = np.floor(np.log2(size)).astype(np.int64) - 7
    mantissa = size >> (exponent + 3) & 15
    octets = ~((value < 0) * 0x80 | exponent << 4 | mantissa) & 0xFF
    return bytes(octets.astype(np.uint8))


def write(path: Path, seconds: float) -> None:
    """Write the reference as a WAV file."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(reference(seconds).astype("<i2").tobytes())


def windows_with_voice(path: Path) -> NDArray[np.bool_]:
    """Return bool[windows]: 20 ms windows of a recording with voice; empty without a recording.

    The header of a file that was not closed may give too small a size, so the file is read to its
    end.
    """
    try:
        octets = path.read_bytes()
    except OSError:
        return np.zeros(0, bool)
    at = octets.find(b"data") + 8
    if at < 8:
        return np.zeros(0, bool)
    samples = np.frombuffer(octets[at : at + (len(octets) - at) // 2 * 2], "<i2").astype(np.float64)
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return np.asarray(np.sqrt((windows**2).mean(axis=1)) > SILENCE, bool)
