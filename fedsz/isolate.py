"""Decoding where a crash costs one update: worker processes with memory and time limits.

The C decoders of SZ2, SZ3 and ZFP trust their input: a crafted block with a valid checksum makes them write where they
should not, allocate without end or call ``exit(0)``. Here they do that in a process that holds nothing but the payload
and the global model. Files in memory carry the bytes, so that nothing is pickled in either direction.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsz import errors
from fedsz.container import Directory
from fedsz.globalmodel import Reference
from fedsz.memory import padded, rooms
from fedsz.workers import Worker, memory_file, pool


@dataclass(frozen=True, slots=True)
class Isolation:
    """Limits of one isolated decoding.

    Attributes:
        seconds: wall time allowed, plus the decoded bytes over `bytes_per_second`.
        bytes_per_second: a tenth of the slowest codec's usual speed.
        spare_bytes: memory allowed beyond four times the decoded state and the payload: codecs' working space.
    """

    seconds: float = 10.0
    bytes_per_second: float = 10e6
    spare_bytes: int = 512 << 20

    def time_limit_s(self, raw_bytes: int) -> float:
        """Seconds allowed for *raw_bytes* decoded bytes."""
        return self.seconds + raw_bytes / self.bytes_per_second


def offsets(sizes: Sequence[int]) -> list[int]:
    """Where each block's tensors lie in the result file, and last where it ends; *sizes* are their decoded bytes."""
    return [0, *accumulate(padded(size) for size in sizes)]


def decode(
    payload: memoryview,
    directory: Directory,
    reference: Reference | None,
    limits: Isolation,
    sizes: Sequence[int],
) -> list[NDArray[np.uint8]]:
    """The decoded bytes of each block of a payload, decoded in a worker process.

    Args:
        payload: whole, its directory already read and checked.
        directory: of it.
        reference: the one that the payload names, or None.
        limits: what the worker may take.
        sizes: decoded bytes of each block.

    Raises:
        PayloadError: what the decoder found wrong, or DecoderCrashedError where it died or took too long.
    """
    starts = offsets(sizes)
    raw_bytes = sum(sizes)
    needs = reference if directory.digest is not None else None
    seconds = limits.time_limit_s(raw_bytes)
    with pool().worker() as worker, contextlib.ExitStack() as stack:
        result, new_result = worker.result_area(starts[-1])
        files = [_file_of(stack, payload)]
        if new_result is not None:
            stack.callback(os.close, new_result)
            files.append(new_result)
        send_reference = needs is not None and worker.holds != needs.digest
        if needs is not None and send_reference:
            files.append(_file_of(stack, memoryview(_packed(needs))))
        message = {
            "payload_bytes": len(payload),
            "new_result_bytes": 0 if new_result is None else len(result),
            "memory_bytes": 4 * raw_bytes + len(payload) + limits.spare_bytes,
            "max_bytes": raw_bytes,
            "seconds": seconds,
            "reference": send_reference,
        }
        answer = _ask(worker, message, files, seconds)
        if needs is not None:
            worker.holds = needs.digest
        if "error" not in answer:
            # Copied, because the worker can write to the area for as long as it lives.
            return list(_copies(np.frombuffer(result, np.uint8), starts, sizes))
    raise _error(answer)


def _ask(worker: Worker, message: dict[str, Any], files: list[int], seconds: float) -> dict[str, Any]:
    started = time.monotonic()
    try:
        return worker.ask(message, files, seconds)
    except TimeoutError:
        worker.kill()
        spent = time.monotonic() - started
        raise errors.DecoderCrashedError(f"decoder stopped after {spent:.1f} s on this payload") from None
    except (OSError, ValueError):
        how = worker.kill()
        raise errors.DecoderCrashedError(f"decoder died on this payload ({how})") from None


def _packed(reference: Reference) -> bytes:
    # Imported late: compression does not need isolation, and must not import it.
    from fedsz.compression import compress

    return compress(reference.arrays, codec="none")


def _file_of(stack: contextlib.ExitStack, data: memoryview) -> int:
    file = memory_file(len(data))
    stack.callback(os.close, file)
    with mmap.mmap(file, len(data)) as target:
        target[:] = data
    return file


def _copies(
    area: NDArray[np.uint8], starts: Sequence[int], sizes: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    for out, start in zip(rooms(sizes), starts, strict=False):  # the last of starts is the end
        out[:] = area[start : start + out.size]
        yield out


def _error(answer: dict[str, Any]) -> errors.FedSZError:
    name, text = str(answer["error"]), str(answer.get("text", ""))
    kind = getattr(errors, name, None)
    if kind is errors.CodecUnavailableError:
        return errors.CodecUnavailableError(*map(str, answer["args"]))
    if kind in (errors.MalformedPayloadError, errors.TruncatedPayloadError, errors.PayloadError):
        assert kind is not None
        rebuilt: errors.FedSZError = kind(text)
        return rebuilt
    return errors.DecoderCrashedError(f"decoder failed on this payload ({name}: {text})")
