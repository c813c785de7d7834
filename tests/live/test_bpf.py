# SPDX-License-Identifier: BSD-3-Clause
"""The assembler, its listing, and what the kernel's verifier says."""

from __future__ import annotations

import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.offload import bpf
from midcall.testbed.live.offload.bpf import R0, R1, R2, XDP_DROP, XDP_PASS, Program


def first_octet() -> Program:
    """Return a program that drops frames whose first octet is 7."""
    p = Program("seven")
    p.section("read")
    p.load(R2, 4, R1, 4)
    p.load(R1, 4, R1, 0)
    p.do(R0, "=", R1)
    p.do(R0, "+=", 1)
    p.jump_if(R0, ">", R2, "pass")
    p.load(R1, 1, R1, 0)
    p.jump_if(R1, "==", 7, "drop")
    p.label("pass")
    p.exit(XDP_PASS)
    p.section("answer")
    p.label("drop")
    p.exit(XDP_DROP)
    return p


def test_instructions_are_those_of_the_standard() -> None:
    p = Program("words")
    p.do(R0, "=", -1)  # RFC 9669 section 4.1: class 7 (64-bit), move 0xb0, a number
    p.do(R1, "+=", R2)
    p.load_network(R2, 2, R1, 12)
    p.jump_if(R2, "!=", 0x0800, "end")
    p.label("end")
    p.exit()
    assert p.assemble().hex(" ", 8) == (
        "b7000000ffffffff 0f21000000000000 69120c0000000000 dc02000010000000 "
        "57020000ffff0000 5502000000080000 9500000000000000"
    )


def test_a_listing_reads_as_the_program_was_written() -> None:
    assert first_octet().listing() == (
        "# read\n"
        "    0  r2 = u32 at r1+4\n"
        "    1  r1 = u32 at r1+0\n"
        "    2  r0 = r1\n"
        "    3  r0 += 1\n"
        "    4  to pass if r0 > r2\n"
        "    5  r1 = u8 at r1+0\n"
        "    6  to drop if r1 == 0x7\n"
        "pass:\n"
        "    7  r0 = 2\n"
        "    8  exit\n"
        "\n"
        "# answer\n"
        "drop:\n"
        "    9  r0 = 1\n"
        "   10  exit\n"
    )


def test_a_jump_to_nowhere_is_told() -> None:
    p = Program("lost")
    p.jump("home")
    with pytest.raises(TestbedError, match="BPF program lost: no label 'home' to jump to"):
        p.assemble()


def test_a_label_stands_in_one_place() -> None:
    p = Program("twice")
    p.label("here")
    with pytest.raises(TestbedError, match="label 'here' stands in two places"):
        p.label("here")


@pytest.mark.live
def test_a_program_runs_on_frames() -> None:
    program = bpf.load(first_octet())
    assert bpf.try_out(program, b"\7" + bytes(20)) == XDP_DROP
    assert bpf.try_out(program, bytes(21)) == XDP_PASS


@pytest.mark.live
def test_the_verifiers_words_and_the_section_are_in_the_error() -> None:
    p = Program("unsafe")
    p.section("reads unchecked")
    p.load(R1, 4, R1, 0)
    p.load(R0, 1, R1, 0)
    p.exit()
    with pytest.raises(TestbedError) as caught:
        bpf.load(p)
    words = str(caught.value)
    assert "verifier refuses the BPF program unsafe in the section 'reads unchecked'" in words
    assert "invalid access to packet" in words


@pytest.mark.live
def test_a_map_holds_what_was_put() -> None:
    table = bpf.Map(bpf.HASH, 4, 8, 2)
    table.update(b"one!", b"12345678")
    assert table.look_up(b"one!") == b"12345678"
    assert table.look_up(b"two!") is None
    assert table.delete(b"one!")
    assert not table.delete(b"one!")
    for key in (b"aaaa", b"bbbb"):
        table.update(key, bytes(8))
    with pytest.raises(OSError, match="Argument list too long"):
        table.update(b"cccc", bytes(8))
    table.close()


@pytest.mark.live
def test_an_array_is_memory_that_both_see() -> None:
    array = bpf.Map(bpf.ARRAY, 4, 8, 4)
    memory = array.memory()
    array.update((2).to_bytes(4, "little"), b"abcdefgh")
    assert memory[16:24] == b"abcdefgh"
    array.close()


@pytest.mark.live
def test_a_map_that_the_kernel_cannot_make_is_told() -> None:
    with pytest.raises(TestbedError, match="the kernel refuses a map of 0 entries"):
        bpf.Map(bpf.HASH, 4, 4, 0)
