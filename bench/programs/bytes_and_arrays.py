"""Bytes and arrays: packed records and a sieve."""

import struct
import zlib
from array import array


def work():
    sieve = bytearray([1]) * 3_000_000
    for i in range(2, 1_733):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, len(sieve), i)))
    packed = b"".join(struct.pack("<IdH", i, i / 3, i & 255) for i in range(130_000))
    values = array("d", (value for _, value, _ in struct.iter_unpack("<IdH", packed)))
    return f"{sum(sieve)} {sum(values):.3f} {zlib.crc32(packed)}"
