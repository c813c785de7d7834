# SPDX-License-Identifier: BSD-3-Clause
"""What was heard is counted in packets' times, and silence is none of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from midcall.testbed.programs.calls import voice


def recorded(path: Path, samples: np.ndarray) -> Path:
    voice.write(path, 1.0)
    head = path.read_bytes()[:44]
    path.write_bytes(head + samples.astype("<i2").tobytes())
    return path


def test_the_reference_is_never_silent(tmp_path: Path) -> None:
    voice.write(tmp_path / "voice.wav", 2.0)
    windows = voice.windows_with_voice(tmp_path / "voice.wav")
    assert len(windows) == 100
    assert windows.all()


def test_a_hole_in_the_voice_is_not_heard(tmp_path: Path) -> None:
    samples = voice.reference(1.0)
    samples[2000:4400] = 0
    windows = voice.windows_with_voice(recorded(tmp_path / "heard.wav", samples))
    assert 35 <= windows.sum() < 40
    assert not windows[13:27].any()


def test_nothing_was_heard_where_nothing_was_recorded(tmp_path: Path) -> None:
    assert len(voice.windows_with_voice(tmp_path / "none.wav")) == 0
    (tmp_path / "empty.wav").write_bytes(b"RIFF")
    assert len(voice.windows_with_voice(tmp_path / "empty.wav")) == 0


def test_mu_law_is_that_of_the_standard() -> None:
    samples = np.array([0, 1000, -1000, 8159 * 4, -32768], np.int16)
    # Those of Python 3.11's audioop.lin2ulaw.
    assert list(voice.mu_law(samples)) == [0xFF, 0xCE, 0x4E, 0x80, 0x00]
