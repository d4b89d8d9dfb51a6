"""An archive whose one member is the archive itself: who unpacks archives inside of archives never ends.

The construction is that of Russ Cox 2010, "Zip files all the way down": blocks of a deflate stream are read as
commands, L(n) for "the next n bytes as they stand" and R(n) for "the last n bytes again". The checksum, which stands in
the archive four times, follows from linear equations, since CRC-32 is affine.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

REPEAT = 10
"""Bytes of an R(n)."""


def zip_quine(name: str) -> bytes:
    """Return an archive of one member of this name, which is the archive."""
    for date in range(33, 1000):  # another date gives other equations
        plain = zlib.crc32(_archive(name, 0, date))
        columns = [zlib.crc32(_archive(name, 1 << bit, date)) ^ plain ^ (1 << bit) for bit in range(32)]
        checksum = _solution(columns, plain)
        if checksum is not None:
            return _archive(name, checksum, date)
    raise AssertionError("a third of all dates should do")


def _archive(name: str, checksum: int, date: int) -> bytes:
    title = name.encode()
    before, behind = 30 + len(title), 5 + 46 + len(title) + 22
    packed = len(_stream(bytes(before), bytes(behind)))
    fields = (20, 0, 8, 0, date, checksum, packed, before + packed + behind - 5, len(title), 0)
    common = struct.pack("<HHHHHIIIHH", *fields)
    local = b"PK\3\4" + common + title
    central = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + title
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), before + packed, 0)
    tail = b"\1\0\0\xff\xff" + central + end  # the stream's last, empty block, and what follows the stream
    return local + _stream(local, tail) + central + end


def _stream(head: bytes, tail: bytes) -> bytes:
    """Return the deflate stream that unpacks to head, itself, and tail, whose first five bytes are its own last ones.

    One line a command. What has been unpacked after each is what has been written before it, and a little ahead.
    """
    first, last = len(head) + 5, REPEAT + len(tail)
    lines = [
        [_as_it_stands(first), head, _as_it_stands(first)],
        [_again(first)],
        [_as_it_stands(10), _again(first)],
        [_as_it_stands(5), _as_it_stands(10)],
        [_as_it_stands(0)],
        [_as_it_stands(30), _again(first), _as_it_stands(5), _as_it_stands(10), _as_it_stands(0), _as_it_stands(30)],
        [_again(30)],
        [_as_it_stands(30), _again(30), _as_it_stands(30), _again(30), _as_it_stands(30)],
        [_again(30)],
        [_as_it_stands(30), _again(30), *[_as_it_stands(0)] * 3, _as_it_stands(last)],
        [_again(30)],
        [_as_it_stands(0)] * 3,
        [_as_it_stands(last), _again(last), tail],
        [_again(last)],
        [tail[:5]],
    ]
    return b"".join(part for line in lines for part in line)


def _as_it_stands(count: int) -> bytes:
    """L(n): the header of a stored block, whose n bytes follow."""
    return struct.pack("<BHH", 0, count, count ^ 0xFFFF)


def _again(count: int) -> bytes:
    """R(n), 19 <= n <= 514: copies of the last n bytes in codes of the fixed table, then an empty stored block."""
    for parts in (1, 2):
        for fillers in range(5):
            bits = [0, 1, 0]
            for length in (count - count // parts * (parts - 1), *[count // parts] * (parts - 1)):
                bits += [*_length(length), *_distance(count)]
            bits += [0] * 7 + [0, 1, 0, *[0] * 7] * fillers + [0] * 3
            if -(-len(bits) // 8) == REPEAT - 4:
                return _bytes(bits) + b"\0\0\xff\xff"
    raise AssertionError(f"no way to repeat {count} bytes in {REPEAT}")


def _length(length: int) -> list[int]:
    symbol, base, extra = _row(_table(28, first=3, rows=4), length)
    code = [(symbol + 1) >> bit & 1 for bit in range(6, -1, -1)]
    if symbol + 257 >= 280:
        code = [(0b11000000 + symbol - 23) >> bit & 1 for bit in range(7, -1, -1)]
    return code + [(length - base) >> bit & 1 for bit in range(extra)]


def _distance(distance: int) -> list[int]:
    symbol, base, extra = _row(_table(30, first=1, rows=2), distance)
    return [symbol >> bit & 1 for bit in range(4, -1, -1)] + [(distance - base) >> bit & 1 for bit in range(extra)]


def _table(count: int, *, first: int, rows: int) -> list[tuple[int, int]]:
    """Return base and extra bits of every symbol, RFC 1951, section 3.2.5."""
    found = []
    for symbol in range(count):
        extra = max(0, symbol // rows - 1)
        found.append((first, extra))
        first += 1 << extra
    return found


def _row(table: list[tuple[int, int]], value: int) -> tuple[int, int, int]:
    return max((symbol, base, extra) for symbol, (base, extra) in enumerate(table) if base <= value)


def _bytes(bits: list[int]) -> bytes:
    padded = bits + [0] * (-len(bits) % 8)
    return bytes(sum(bit << i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8))


def _solution(columns: Iterable[int], target: int) -> int | None:
    """Return which columns add up to the target over GF(2), as bits of a number; None where none do."""
    basis: dict[int, tuple[int, int]] = {}
    for number, column in enumerate(columns):
        rest, used = column, 1 << number
        while rest and rest.bit_length() in basis:
            value, also = basis[rest.bit_length()]
            rest, used = rest ^ value, used ^ also
        if rest:
            basis[rest.bit_length()] = rest, used
    chosen = 0
    while target:
        if target.bit_length() not in basis:
            return None
        value, used = basis[target.bit_length()]
        target, chosen = target ^ value, chosen ^ used
    return chosen
