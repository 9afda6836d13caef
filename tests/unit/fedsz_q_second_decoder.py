"""A decoder of `fedsz-q` written from docs/codecs.md alone: plain Python integers, no line shared with the package."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

CHUNK = 1 << 17


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


class Bits:
    """Lowest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.size = data, 0, 8 * len(data)

    def take(self, count: int) -> int:
        few = int.from_bytes(self.data[self.at // 8 : (self.at + count + 7) // 8], "little")
        few >>= self.at % 8
        self.at += count
        return few & ((1 << count) - 1)

    def ones(self, most: int) -> int:
        count = 0
        while count < most:
            if not self.take(1):
                return count
            count += 1
        return count


def read_weights(source: Bytes, symbols: int) -> list[int]:
    bits = Bits(source.data[source.at :])
    rice, mantissa = bits.take(3), bits.take(2)
    assert bits.take(3) == 0
    weights: list[int] = []
    level = 0
    while len(weights) < symbols:
        quotient = bits.ones(24)
        number = (quotient << rice) + bits.take(rice) if quotient < 24 else bits.take(10)
        if number == 0:
            length = bits.ones(16)
            weights += [0] * ((1 << length) + bits.take(length))
            continue
        step = number - 1
        level += -(step + 1) // 2 if step % 2 else step // 2
        exponent, rest = divmod(level - 1, 1 << mantissa)
        weights.append(((1 << mantissa) + rest) << exponent)
    source.take((bits.at + 7) // 8)
    assert len(weights) == symbols
    return weights


def frequencies(weights: list[int], precision: int) -> list[int]:
    size, total = 1 << precision, sum(weights)
    found = [max(1, (w * size + total // 2) // total) if w else 0 for w in weights]
    rest = size - sum(found)
    largest = found.index(max(found))
    if rest >= -(found[largest] // 4):
        found[largest] += rest
        return found
    while rest < 0:
        for symbol, f in enumerate(found):
            if rest < 0 and f > 1:
                found[symbol] -= 1
                rest += 1
    return found


def states(found: list[int], precision: int) -> list[tuple[int, int, int]]:
    """Per state less M: symbol, number of bits, state before them."""
    size = 1 << precision
    owner, at = [0] * size, 0
    for symbol, f in enumerate(found):
        for _ in range(f):
            owner[at] = symbol
            at = (at + size // 2 + size // 8 + 3) % size
    following, table = list(found), []
    for symbol in owner:
        after = following[symbol]
        following[symbol] += 1
        bits = precision + 1 - after.bit_length()
        table.append((symbol, bits, (after << bits) - size))
    return table


def tokens(
    stream: bytes, tables: list[list[tuple[int, int, int]]], precision: int, contexts: list[int]
) -> Iterator[int]:
    bits = Bits(stream)
    while not bits.take(1):
        pass
    state = [bits.take(precision) for _ in range(8)]
    for i, context in enumerate(contexts):
        symbol, count, base = tables[context][state[i % 8]]
        state[i % 8] = base + bits.take(count)
        yield symbol
    assert state == [0] * 8
    assert bits.at == bits.size


def read_symbols(source: Bytes, count: int, bins: int) -> list[int]:
    shape, precision = source.take(2)
    low_bits, per_token = shape % 32, shape // 32 + 1
    alphabet = bins**per_token if per_token > 1 else ((bins - 1) >> low_bits) + 1
    table = states(frequencies(read_weights(source, alphabet), precision), precision)
    sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
    lengths = [source.varint() for _ in sizes]
    symbols: list[int] = []
    for size, length in zip(sizes, lengths, strict=True):
        of_chunk = -(-size // per_token)
        found = list(tokens(source.take(length), [table], precision, [0] * (-(-of_chunk // 8) * 8)))[
            :of_chunk
        ]
        if per_token > 1:
            digits = [[token // bins**digit % bins for token in found] for digit in range(per_token)]
            symbols += [one for plane in digits for one in plane][:size]
            continue
        low, done = [0] * size, 0
        for width in (16, 8, 4, 2, 1):
            if not low_bits & width:
                continue
            for _ in range(max(1, width // 8)):
                wide = min(width, 8)
                each = -(-size * wide // 8)
                plane = source.take(each)
                for i in range(size):
                    part, byte = divmod(i, each)
                    low[i] |= (plane[byte] >> (part * wide) & ((1 << wide) - 1)) << done
                done += wide
        symbols += [(token << low_bits) | rest for token, rest in zip(found, low, strict=True)]
    return symbols


def read_grids(source: Bytes, tensors: int, dtype: str) -> tuple[list[float], int, int]:
    code, width = ("f", 4) if dtype == "f4" else ("d", 8)
    steps = [struct.unpack("<" + code, source.take(width))[0] for _ in range(tensors)]
    number, bins = source.varint(), source.varint()
    return steps, -(number + 1) // 2 if number % 2 else number // 2, bins


def decode_dithered(
    blob: bytes, counts: list[int], dtype: str, references: list[np.ndarray] | None = None
) -> list[np.ndarray]:
    """The tensors of a blob of `fedsz-q-dither`."""
    source = Bytes(blob)
    assert source.take(1)[0] == (1 if references is None else 2)
    seed = int.from_bytes(source.take(8), "little")
    steps, low, bins = read_grids(source, len(counts), dtype)
    moved = np.split(np.array([dither(seed, i) for i in range(sum(counts))]), np.cumsum(counts[:-1]))
    if references is None:
        points = np.split(np.array(read_symbols(source, sum(counts), bins)) + low, np.cumsum(counts[:-1]))
    else:
        lengths = [source.varint() for _ in counts]
        points = [
            np.array(points_given(Bytes(source.take(length)), base, step, low, bins, u))
            for length, step, base, u in zip(lengths, steps, references, moved, strict=True)
        ]
    assert source.at == len(blob)
    return [((part - u) * step).astype(dtype) for part, u, step in zip(points, moved, steps, strict=True)]


def dither(seed: int, index: int) -> float:
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    return (z // 2**40 + 0.5) / 2**24 - 0.5


def decode(
    blob: bytes, counts: list[int], dtype: str, references: list[np.ndarray] | None = None
) -> list[np.ndarray]:
    """The tensors of a blob; *dtype* is ``f4`` or ``f8``."""
    source = Bytes(blob)
    layout = source.take(1)[0]
    assert layout == (1 if references is None else 2)
    steps, low, bins = read_grids(source, len(counts), dtype)
    if bins == 1:
        return [np.full(count, low * step, dtype) for count, step in zip(counts, steps, strict=True)]
    if references is None:
        symbols = read_symbols(source, sum(counts), bins)
        assert source.at == len(blob)
        points = np.split(np.array(symbols) + low, np.cumsum(counts[:-1]))
        return [(part * step).astype(dtype) for part, step in zip(points, steps, strict=True)]
    lengths = [source.varint() for _ in counts]
    return [
        (np.array(points_given(Bytes(source.take(length)), base, step, low, bins)) * step).astype(dtype)
        for length, step, base in zip(lengths, steps, references, strict=True)
    ]


def points_given(
    source: Bytes, reference: np.ndarray, step: float, low: int, bins: int, moved: np.ndarray | None = None
) -> list[int]:
    kind, count, last = source.take(1)[0], len(reference), low + bins - 1
    if kind == 0:
        return [low + symbol for symbol in read_symbols(source, count, bins)]
    real = reference.dtype.type
    with np.errstate(over="ignore"):
        place = reference * real(1 / step)
        place = np.clip(place if moved is None else place + moved, real(low - 1), real(last + 1))
    nearest = np.rint(place)
    alphabet = source.varint()
    if kind == 1:
        found = read_symbols(source, count, alphabet) if alphabet > 1 else [0] * count
    else:
        border = np.float32(0.5) - np.abs(place - nearest).astype(np.float32)
        contexts = sum((border < np.float32(2.0**-power)).astype(int) for power in range(2, 10))
        precision = source.take(1)[0]
        weights = read_weights(source, 9 * alphabet)
        tables = []
        for context in range(9):
            own = [weights[9 * token + (8 - context if token % 2 else context)] for token in range(alphabet)]
            found = frequencies(own, precision) if any(own) else [1 << precision] + [0] * (alphabet - 1)
            tables.append(states(found, precision))
        starts = range(0, count, CHUNK)
        lengths = [source.varint() for _ in starts]
        found = []
        for first, length in zip(starts, lengths, strict=True):
            own = contexts[first : first + CHUNK].tolist()
            padded = own + [0] * (-len(own) % 8)
            found += list(tokens(source.take(length), tables, precision, padded))[: len(own)]
    assert source.at == len(source.data)
    distances = [(token + 1) // 2 if token % 2 else -(token // 2) for token in found]
    towards = np.where(place < nearest, -1, 1)
    return [int(n + t * d) for n, t, d in zip(nearest, towards, distances, strict=True)]
