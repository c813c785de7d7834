# SPDX-License-Identifier: BSD-3-Clause
"""Names: the longest known suffix decides, on the border of a label, whatever the case."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.wire.dns import labels
from midcall.classifier.state.hostnames import LONGEST, NAMES, SLOTS, name_rule, plain_name, rules
from midcall.classifier.state.packet_fields import SIGN_TEXT, SIGN_TEXT_LENGTH
from midcall.classifier.state.verdicts import APPS, ROLES
from tests.classifier.wire import blank_signs, octets

TABLE = {suffix: (app, role) for suffix, app, role in NAMES}


def rule(name: str, wire: bool = False) -> tuple[str, str]:
    """Return app and role that a name gets."""
    text = labels(name) if wire else name.encode()
    found = int(name_rule(octets(text + b"#"), 0, len(text), int(wire), blank_signs()))
    return APPS[found >> 8], ROLES[found & 0xFF]


def test_suffixes_are_unique_in_lower_case_and_leave_the_table_room() -> None:
    assert len(TABLE) == len(NAMES)
    assert len(rules()) < SLOTS / 2
    assert all(suffix == suffix.lower().strip(".") and "." in suffix for suffix in TABLE)


@pytest.mark.parametrize("suffix", TABLE)
@pytest.mark.parametrize("wire", [False, True], ids=["text", "wire format"])
def test_every_suffix_is_found_alone_below_a_label_and_in_capitals(suffix: str, wire: bool) -> None:
    app, role = TABLE[suffix]
    expected = (APPS[app], ROLES[role])
    for name in (suffix, f"a.{suffix}", f"x1.y-2.{suffix}", suffix.upper()):
        assert rule(name, wire) == expected, name


@pytest.mark.parametrize("suffix", TABLE)
def test_a_suffix_ends_at_the_border_of_a_label(suffix: str) -> None:
    known = {name for name in TABLE if suffix.endswith("." + name)}
    if not known:
        assert rule("x" + suffix) == ("none", "other")
    assert rule(suffix + ".example.org") == ("none", "other")
    assert rule(suffix + "x") == ("none", "other")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("teams.microsoft.com", ("teams", "messaging")),
        ("euaz.tr.teams.microsoft.com", ("teams", "setup")),
        ("microsoft.com", ("none", "other")),
        ("facebook.com", ("none", "other")),
        ("edge-mqtt.facebook.com", ("messenger", "messaging")),
        ("apple.com", ("none", "other")),
        ("zoom.us", ("zoom", "messaging")),
        ("zoomsjczc.zoom.us", ("zoom", "setup")),
        ("zoomsjc113mmr.zoom.us", ("zoom", "setup")),
        ("zc.zoom.us", ("zoom", "messaging")),
        ("notwhatsapp.net", ("none", "other")),
        ("", ("none", "other")),
        (".", ("none", "other")),
    ],
)
def test_the_longest_suffix_decides(name: str, expected: tuple[str, str]) -> None:
    assert rule(name) == expected


def oracle(name: str) -> tuple[str, str]:
    """Return app and role of the longest suffix, slowly."""
    parts = name.lower().split(".")
    for start in range(len(parts)):
        if (found := TABLE.get(".".join(parts[start:]))) is not None:
            return APPS[found[0]], ROLES[found[1]]
    return "none", "other"


label = st.text("abcmnotxz019-", min_size=1, max_size=4)
suffixes = st.sampled_from([name for name in TABLE if name != "zoom.us"])


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(label, max_size=3), suffixes | label, st.sampled_from(["", ".", "x", "-"]))
def test_names_agree_with_a_slow_look_up(before: list[str], suffix: str, glue: str) -> None:
    name = ".".join(before) + (glue or ".") + suffix if before else suffix
    assert rule(name) == oracle(name)


def plain(text: bytes, wire: int) -> bytes:
    """Return the name that is left in the signs."""
    signs = blank_signs()
    length = int(plain_name(octets(text + b"#"), 0, len(text), wire, signs))
    assert signs[SIGN_TEXT_LENGTH] == length
    return bytes(signs[SIGN_TEXT : SIGN_TEXT + length].tolist())


@pytest.mark.parametrize(
    ("text", "wire", "expected"),
    [
        (b"Chat.Example.ORG", 0, b"chat.example.org"),
        (labels("Chat.Example.ORG"), 1, b"chat.example.org"),
        (b"\3abc\xc0\x0c", 1, b"abc"),
        (b"\3abc\5de", 1, b"abc.de"),
        (b"", 1, b""),
        (b"x" * 400, 0, b"x" * LONGEST),
        ((b"\x3f" + b"y" * 63) * 6, 1, b".".join([b"y" * 63] * 4)[:LONGEST]),
    ],
)
def test_the_name_is_left_in_plain_and_bounded(text: bytes, wire: int, expected: bytes) -> None:
    assert plain(text, wire) == expected
