# SPDX-License-Identifier: BSD-3-Clause
"""System calls for compiled code, and scheduling of a process that forwards packets.

Numba compiles a call of an external function by its C name, which the linker finds in the libc of
this process; so a kernel that waits or sends is still cached and holds no interpreter. With
NUMBA_DISABLE_JIT=1 the same names are called through ctypes. Pointers are passed as integers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel, library_function

Numbers = NDArray[np.int64]

CLOCK_REALTIME = 0
SECOND = 1_000_000_000
#: Command prefix (util-linux) of every program of a run: the kernel kills the program when the lab
#: dies.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
MSG_DONTWAIT = 0x40
POLLIN = 1
#: prctl: the signal that a process gets when its parent dies, and how late a sleep may end.
PR_SET_PDEATHSIG, PR_SET_TIMERSLACK = 1, 29

#: The shortest time slice that the scheduler grants.
SLICE_NS = 100_000
#: The system call's number, which libc has no name for.
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}

_LIBC = ctypes.CDLL(None, use_errno=True)


def external(name: str, count: int) -> Callable[..., int]:
    """Return a C function of that many integer or pointer arguments, callable from kernels."""
    function = _LIBC[name]  # an object of its own: its types are not those of other callers
    function.argtypes, function.restype = [ctypes.c_int64] * count, ctypes.c_int64
    return library_function(name, count, function)


_clock_gettime: Callable[..., int] = external("clock_gettime", 2)
_ppoll: Callable[..., int] = external("ppoll", 4)
_sendto: Callable[..., int] = external("sendto", 6)
_memcpy: Callable[..., int] = external("memcpy", 3)


@kernel
def low(word: int) -> int:
    """Return the C `int` that a call returned in the low half of a 64-bit register."""
    word &= 0xFFFFFFFF
    return I(word - 0x100000000 if word >= 0x80000000 else word)


@kernel
def now(pair: Numbers) -> int:
    """Return the time of day in ns (the clock of packet stamps); `pair` is scratch, int64[2]."""
    _clock_gettime(CLOCK_REALTIME, pair.ctypes.data)
    return I(pair[0] * SECOND + pair[1])


@kernel
def wait_readable(fds: Numbers, count: int, ns: int, pair: Numbers) -> int:
    """Sleep until one of some sockets can be read or ns have passed; returns how many can.

    fds: int64[count], each a `struct pollfd`: descriptor, events in bits 32-47.
    """
    pair[0], pair[1] = ns // SECOND, ns % SECOND
    return low(_ppoll(fds.ctypes.data, count, pair.ctypes.data, 0))


@kernel
def copy(target: int, source: int, size: int) -> None:
    """Copy bytes from one address to another; the stretches must not overlap."""
    _memcpy(target, source, size)


@kernel
def kick(fd: int) -> int:
    """Have the kernel send the frames in a socket's transmit ring."""
    return low(_sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0))


# ---- the whole process


def die_with_parent(parent: int, signal: int = 9) -> None:
    """Have the kernel kill this process when its parent, process `parent`, dies.

    The kernel does not signal a parent's death that came before this call, so the parent is checked
    afterwards: where it has changed, this process kills itself.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal)


def wake_precisely() -> None:
    """Set the timer slack to 1 ns: by default the kernel ends sleeps up to 50 µs late."""
    _LIBC.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


def enter(namespace: int) -> None:
    """Move this thread into the network namespace of an open descriptor; raises OSError."""
    if _LIBC.setns(namespace, 0x40000000) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prefer(core: int | None) -> None:
    """Pin this process to a core and raise its priority, as far as the kernel allows.

    Niceness counts within a session only where sched_autogroup is on (most kernels), so the
    session's own niceness is set as well. A short time slice makes a process that wakes run soon:
    from Linux 6.12 on the scheduler lets a shorter slice cut a longer one short.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    with suppress(OSError):
        os.nice(-20)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")
    set_slice(-20, SLICE_NS)


def urgent(yes: bool) -> bool:
    """Switch real-time scheduling (SCHED_FIFO) on or off; returns whether it is on.

    For a process that sleeps between packets: kernels that preempt lazily let other processes
    finish their tick first (4 ms). Not for one that never sleeps: the kernel stops such a process
    for 50 ms in every second.
    """
    try:
        if yes:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        else:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            set_slice(-20, SLICE_NS)
    except OSError:
        return False
    return yes


def set_slice(nice: int, ns: int) -> None:
    """Request a time slice (sched_setattr, SCHED_OTHER); older kernels ignore it."""
    number = SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, clamps.
    attributes = struct.pack("=IIQiIQQQII", 56, 0, 0, nice, 0, ns, 0, 0, 0, 0)
    _LIBC.syscall(number, 0, attributes, 0)
