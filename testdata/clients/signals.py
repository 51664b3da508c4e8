"""Writes, syncs and reads a file under a storm of signals: signals.py FILE SOURCE.

Files do not return EINTR, nor less than was asked for, because of a signal whose
handler returns. Calls go to the C library, since Python itself hides EINTR.
"""

import ctypes
import os
import signal
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.write.restype = libc.read.restype = ctypes.c_ssize_t
CHUNK = 1 << 20


def check(what, got, want):
    if got != want:
        sys.exit(f"{what} returned {got}, not {want}: {os.strerror(ctypes.get_errno())}")


def main(path, source):
    data = open(source, "rb").read()
    signals = 0

    def count(*_):
        nonlocal signals
        signals += 1

    signal.signal(signal.SIGALRM, count)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for off in range(0, len(data), CHUNK):
        piece = data[off : off + CHUNK]
        check(f"write at {off}", libc.write(fd, piece, ctypes.c_size_t(len(piece))), len(piece))
    check("fsync", libc.fsync(fd), 0)
    check("close", libc.close(fd), 0)
    fd = os.open(path, os.O_RDONLY)
    buf = ctypes.create_string_buffer(CHUNK)
    for off in range(0, len(data), CHUNK):
        piece = data[off : off + CHUNK]
        check(f"read at {off}", libc.read(fd, buf, ctypes.c_size_t(CHUNK)), len(piece))
        if buf.raw[: len(piece)] != piece:
            sys.exit(f"other bytes at {off}")
    check("close", libc.close(fd), 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if signals < 10:
        sys.exit(f"only {signals} signals came")
    print(signals, "signals")


main(*sys.argv[1:])
