# SPDX-License-Identifier: BSD-3-Clause
"""BPF from Python: an assembler, and the bpf system call. No compiler, no library.

A `Program` is written instruction by instruction, with registers and labels by name, in sections
with a heading; `load` passes it to the kernel, whose verifier proves that it terminates and reads
nothing outside a packet. Where it refuses, the error names the section and ends with the verifier's
last lines. Maps are file descriptors; arrays can be mapped into memory, so that counters are read
without a system call. All of these end with the process that made them.

Sources: RFC 9669 (the instruction set); the system call's attributes as in Linux's linux/bpf.h.
Needs Linux 5.9 (links to XDP) on a little-endian machine.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import re
import struct
import sys
from enum import IntEnum
from typing import NamedTuple

from midcall.errors import TestbedError

# ---- the instruction set


class Register(IntEnum):
    """A register. R0 is the result; calls change R1 to R5, not R6 to R9; FRAME: stack pointer."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = range(11)

    def __str__(self) -> str:
        return self.name.lower()


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = Register

#: Sizes of loads and stores, in octets, and their codes.
SIZES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
#: 64-bit arithmetic: operator and its code.
ARITHMETIC = {
    "+=": 0x00,
    "-=": 0x10,
    "*=": 0x20,
    "|=": 0x40,
    "&=": 0x50,
    "<<=": 0x60,
    ">>=": 0x70,
    "^=": 0xA0,
    "=": 0xB0,
}
#: Conditions of jumps, on unsigned numbers; "&": some bit is in common.
CONDITIONS = {"==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "<": 0xA0, "<=": 0xB0}

FROM_REGISTER = 0x08
LOAD, STORE_NUMBER, STORE_REGISTER = 0x61, 0x62, 0x63
ATOMIC_ADD = 0xC3
WIDE_NUMBER = 0x18
JUMP, CALL, EXIT = 0x05, 0x85, 0x95
TO_BIG_ENDIAN = 0xDC
MAP_OF_DESCRIPTOR = 1

# Functions of the kernel that a program may call.
MAP_LOOKUP, CLOCK, REDIRECT = 1, 5, 23
#: Return values of an XDP program.
XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4


class Instruction(NamedTuple):
    """One instruction of 8 octets."""

    code: int
    target: int
    source: int
    offset: int
    number: int

    @property
    def octets(self) -> bytes:
        """Return the instruction as the kernel takes it."""
        registers = self.source << 4 | self.target
        return struct.pack("<BBhi", self.code, registers, self.offset, signed(self.number))


def signed(number: int) -> int:
    """Return a 32-bit number as the signed one of the same bits."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


class Program:
    """A BPF program under construction: instructions, labels, headings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instructions: list[Instruction] = []
        self.words: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def section(self, heading: str) -> None:
        """Begin a part of the program; errors and listings name it."""
        self.headings.append((len(self.instructions), heading))

    def label(self, name: str) -> None:
        """Name the place of the next instruction."""
        if name in self._labels:
            raise TestbedError(f"BPF program {self.name}: label {name!r} stands in two places")
        self._labels[name] = len(self.instructions)

    def do(self, target: Register, sign: str, value: int) -> None:
        """Compute in 64 bits: do(R1, "+=", 14), do(R1, "+=", R2)."""
        code = ARITHMETIC[sign] | 0x07
        words = f"{target} {sign} {value}"
        if isinstance(value, Register):
            self._add(words, code | FROM_REGISTER, target, value, 0, 0)
        else:
            self._add(words, code, target, 0, 0, value)

    def load(self, target: Register, size: int, base: Register, offset: int) -> None:
        """Read `size` octets at base + offset, in the machine's order."""
        words = f"{target} = u{8 * size} at {base}{offset:+d}"
        self._add(words, LOAD | SIZES[size], target, base, offset, 0)

    def load_network(self, target: Register, size: int, base: Register, offset: int) -> None:
        """Read a number of 2 or 4 octets in network byte order.

        The verifier loses a number's bounds when its octets are swapped, hence the mask.
        """
        self.load(target, size, base, offset)
        self._add(f"{target} = from network order", TO_BIG_ENDIAN, target, 0, 0, 8 * size)
        if size == 2:
            self.do(target, "&=", 0xFFFF)

    def store(self, size: int, base: Register, offset: int, source: Register) -> None:
        """Write a register's low octets to base + offset."""
        words = f"u{8 * size} at {base}{offset:+d} = {source}"
        self._add(words, STORE_REGISTER | SIZES[size], base, source, offset, 0)

    def store_number(self, size: int, base: Register, offset: int, number: int) -> None:
        """Write a number to base + offset."""
        words = f"u{8 * size} at {base}{offset:+d} = {number}"
        self._add(words, STORE_NUMBER | SIZES[size], base, 0, offset, number)

    def count(self, base: Register, offset: int, source: Register) -> None:
        """Add a register to the 64-bit number at base + offset, atomically."""
        words = f"u64 at {base}{offset:+d} += {source}, atomically"
        self._add(words, ATOMIC_ADD | SIZES[8], base, source, offset, 0)

    def load_map(self, target: Register, descriptor: int) -> None:
        """Take the address of a map."""
        words = f"{target} = map {descriptor}"
        self._add(words, WIDE_NUMBER, target, MAP_OF_DESCRIPTOR, 0, descriptor)
        self._add("", 0, 0, 0, 0, 0)

    def call(self, function: int) -> None:
        """Call a function of the kernel: arguments in R1 to R5, which it changes, result in R0."""
        self._add(f"call {function}", CALL, 0, 0, 0, function)

    def jump(self, label: str) -> None:
        """Jump to a label further down."""
        self._jumps.append((len(self.instructions), label))
        self._add(f"to {label}", JUMP, 0, 0, 0, 0)

    def jump_if(self, left: Register, sign: str, right: int, label: str) -> None:
        """Jump to a label further down if a comparison with a number or register is true."""
        self._jumps.append((len(self.instructions), label))
        code = CONDITIONS[sign] | 0x05
        if isinstance(right, Register):
            words = f"to {label} if {left} {sign} {right}"
            self._add(words, code | FROM_REGISTER, left, right, 0, 0)
        else:
            self._add(f"to {label} if {left} {sign} {right:#x}", code, left, 0, 0, right)

    def exit(self, answer: int | None = None) -> None:
        """Return `answer`, or the value of R0."""
        if answer is not None:
            self.do(R0, "=", answer)
        self._add("exit", EXIT, 0, 0, 0, 0)

    def _add(
        self, words: str, code: int, target: int, source: int, offset: int, number: int
    ) -> None:
        self.words.append(words)
        self.instructions.append(Instruction(code, target, source, offset, number))

    def assemble(self) -> bytes:
        """Return the program as the kernel takes it; raises TestbedError for an unknown label."""
        placed = list(self.instructions)
        for place, label in self._jumps:
            if label not in self._labels:
                raise TestbedError(f"BPF program {self.name}: no label {label!r} to jump to")
            placed[place] = placed[place]._replace(offset=self._labels[label] - place - 1)
        return b"".join(one.octets for one in placed)

    def heading(self, place: int) -> str:
        """Return the heading of the section that contains an instruction."""
        above = [words for first, words in self.headings if first <= place]
        return above[-1] if above else "before the first section"

    def listing(self) -> str:
        """Return the program as readable text, one instruction a line."""
        names: dict[int, list[str]] = {}
        for name, place in self._labels.items():
            names.setdefault(place, []).append(name)
        headings = dict(self.headings)
        lines = []
        for place, words in enumerate(self.words):
            if place in headings:
                lines += ["", f"# {headings[place]}"]
            lines += [f"{name}:" for name in names.get(place, [])]
            if words:
                lines.append(f"{place:5d}  {words}")
        return "\n".join(lines).strip() + "\n"


# ---- the system call

#: Number of the bpf system call by machine.
CALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}

MAP_CREATE, ELEMENT_LOOKUP, ELEMENT_UPDATE, ELEMENT_DELETE = 0, 1, 2, 3
PROGRAM_LOAD, PROGRAM_TRY, LINK_CREATE = 5, 10, 28

HASH, ARRAY = 1, 2
CAN_BE_MAPPED = 1 << 10
PROGRAM_XDP, ATTACH_XDP = 6, 37
#: How XDP runs: in the kernel's general receive path, or in the driver.
MODES = {"generic": 1 << 1, "native": 1 << 2}

ATTRIBUTE_SIZE = 144
LOG_SIZE = 1 << 20
LOG_LINES = 12

Block = ctypes.Array[ctypes.c_char]

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes, about: str) -> int:
    """Do the system call; returns its result, raises OSError with its errno and `about`."""
    block = ctypes.create_string_buffer(attributes.ljust(ATTRIBUTE_SIZE, b"\0"), ATTRIBUTE_SIZE)
    return system_call(command, block, about)


def system_call(command: int, block: Block, about: str) -> int:
    """Do the system call on a block of attributes, which the kernel may write to."""
    number = CALL_NUMBERS.get(platform.machine())
    if number is None or sys.byteorder != "little":
        raise TestbedError(
            f"offload: BPF is not known for machine {platform.machine()!r}, expected one of "
            f'{", ".join(CALL_NUMBERS)}; say offload = "off"'
        )
    done = _libc.syscall(
        ctypes.c_long(number), ctypes.c_int(command), block, ctypes.c_uint(ATTRIBUTE_SIZE)
    )
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{about}: {os.strerror(code)}")
    return int(done)


def explain(error: OSError, about: str) -> TestbedError:
    """Return the error for a refused system call, with a remedy."""
    remedy = 'say offload = "off" to do without'
    if error.errno == errno.EPERM:
        remedy = f"it needs root, or the capabilities BPF and NET_ADMIN; {remedy}"
    elif error.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        remedy = f"it needs Linux 5.9 or newer with BPF and XDP; {remedy}"
    reason = os.strerror(error.errno or 0)
    return TestbedError(f"offload: the kernel refuses {about} ({reason}); {remedy}")


class Map:
    """A BPF map: an array or a hash of entries of fixed size, shared with programs.

    Arrays of entries that are a multiple of 8 octets can be mapped into memory (`memory`).
    """

    def __init__(self, kind: int, key: int, value: int, entries: int) -> None:
        flags = CAN_BE_MAPPED if kind == ARRAY else 0
        self.key, self.value, self.entries = key, value, entries
        about = f"a map of {entries} entries"
        try:
            self.descriptor = bpf(
                MAP_CREATE, struct.pack("<IIIII", kind, key, value, entries, flags), about
            )
        except OSError as error:
            raise explain(error, about) from error

    def memory(self) -> mmap.mmap:
        """Return the memory of an array, shared with the kernel."""
        return mmap.mmap(self.descriptor, max(self.value * self.entries, 1))

    def update(self, key: bytes, value: bytes) -> None:
        """Write an entry; raises OSError, E2BIG where the map is full."""
        self._element(ELEMENT_UPDATE, key, value)

    def look_up(self, key: bytes) -> bytes | None:
        """Return an entry's value, None where there is none."""
        value = ctypes.create_string_buffer(self.value)
        try:
            self._element(ELEMENT_LOOKUP, key, value)
        except FileNotFoundError:
            return None
        return value.raw

    def delete(self, key: bytes) -> bool:
        """Delete an entry; returns whether it existed."""
        try:
            self._element(ELEMENT_DELETE, key, b"")
        except FileNotFoundError:
            return False
        return True

    def _element(self, command: int, key: bytes, value: bytes | Block) -> None:
        if len(key) != self.key:
            raise ValueError(f"got a key of {len(key)} octets, expected {self.key}")
        if command == ELEMENT_UPDATE and len(value) != self.value:
            raise ValueError(f"got a value of {len(value)} octets, expected {self.value}")
        key_block = ctypes.create_string_buffer(key, len(key))
        block = (
            ctypes.create_string_buffer(value, len(value)) if isinstance(value, bytes) else value
        )
        place = ctypes.addressof(block) if command != ELEMENT_DELETE else 0
        attributes = struct.pack(
            "<IxxxxQQQ", self.descriptor, ctypes.addressof(key_block), place, 0
        )
        bpf(command, attributes, "an entry of a map")

    def close(self) -> None:
        """Close the map; programs that use it keep it alive."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def load(program: Program) -> int:
    """Load an XDP program; returns its descriptor, raises TestbedError with the verifier's log.

    The verifier's log is requested only after a refusal, because logging costs time.
    """
    try:
        return _load(program, None)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM):
            raise explain(error, "a program") from error
    log = ctypes.create_string_buffer(LOG_SIZE)
    try:
        return _load(program, log)
    except OSError as error:
        log_text = log.value.decode(errors="replace").strip()
        if not log_text:
            raise explain(error, "a program") from error
        raise TestbedError(refusal(program, log_text)) from error


def _load(program: Program, log: Block | None) -> int:
    code = program.assemble()
    code_block = ctypes.create_string_buffer(code, len(code))
    license = ctypes.create_string_buffer(b"BSD")
    attributes = struct.pack(
        "<IIQQIIQII16sII",
        PROGRAM_XDP,
        len(code) // 8,
        ctypes.addressof(code_block),
        ctypes.addressof(license),
        1 if log is not None else 0,
        len(log) if log is not None else 0,
        ctypes.addressof(log) if log is not None else 0,
        0,
        0,
        program.name.encode()[:15],
        0,
        ATTACH_XDP,
    )
    return bpf(PROGRAM_LOAD, attributes, f"program {program.name}")


def try_out(program: int, frame: bytes) -> int:
    """Run an XDP program once on a frame (at least 14 octets) without an interface.

    Returns its result: XDP_DROP, XDP_PASS, XDP_REDIRECT.
    """
    frame_block = ctypes.create_string_buffer(frame, len(frame))
    # The kernel writes its result into the attributes, so they are not those of `bpf`.
    attributes = struct.pack(
        "<IIIIQQII", program, 0, len(frame), 0, ctypes.addressof(frame_block), 0, 1, 0
    )
    block = ctypes.create_string_buffer(attributes.ljust(ATTRIBUTE_SIZE, b"\0"), ATTRIBUTE_SIZE)
    system_call(PROGRAM_TRY, block, f"a trial on a frame of {len(frame)} octets")
    return int(struct.unpack_from("<I", block.raw, 4)[0])


def refusal(program: Program, log: str) -> str:
    """Return the message for a verifier's refusal: section where it stopped, and its last lines."""
    lines = log.splitlines()
    places = [int(match[1]) for line in lines if (match := re.match(r"(\d+): \(", line))]
    where = f"in the section {program.heading(places[-1])!r}" if places else "at once"
    last = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    return (
        f"offload: the kernel's verifier refuses the BPF program {program.name} {where}; "
        f'say offload = "off" and report this:\n{last}'
    )


def attach(program: int, interface: int, mode: str = "generic") -> int:
    """Attach an XDP program to an interface (its index); returns the link's descriptor.

    The link, and with it the program, goes away when the descriptor is closed or the process ends.
    mode: "generic" or "native". Raises TestbedError.
    """
    if mode not in MODES:
        raise TestbedError(f"XDP mode: got {mode!r}, expected one of {', '.join(MODES)}")
    attributes = struct.pack("<IIII", program, interface, ATTACH_XDP, MODES[mode])
    about = f"an XDP program on interface {interface}"
    try:
        return bpf(LINK_CREATE, attributes, about)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EEXIST):
            raise TestbedError(
                f"offload: interface {interface} has an XDP program already; take it off, or say "
                'offload = "off"'
            ) from error
        raise explain(error, about) from error
