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
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsz import errors
from fedsz.arrays import Array
from fedsz.container import Directory
from fedsz.globalmodel import Reference
from fedsz.layout import Layout
from fedsz.workers import Worker, memory_file, pool

ALIGNMENT = 64


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


def offsets(layout: Layout) -> tuple[list[int], int]:
    """Where each tensor lies in the result file, and the size of all."""
    starts, at = [], 0
    for nbytes in layout.nbytes:
        starts.append(at)
        at += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return starts, at


def decode(
    payload: memoryview, directory: Directory, reference: Reference | None, limits: Isolation
) -> list[Array]:
    """All tensors of a payload in state order, flat and native, decoded in a worker process.

    Args:
        payload: whole, its directory already read and checked.
        directory: of it.
        reference: the one that the payload names, or None.
        limits: what the worker may take.

    Raises:
        PayloadError: what the decoder found wrong, or DecoderCrashedError where it died or took too long.
    """
    layout = directory.layout
    starts, size = offsets(layout)
    raw_bytes = sum(layout.nbytes)
    needs = reference if directory.digest is not None else None
    seconds = limits.time_limit_s(raw_bytes)
    with pool().worker() as worker, contextlib.ExitStack() as stack:
        result, new_result = worker.result_area(size)
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
            return [
                _copy(result, start, nbytes, layout.native_dtype(at))
                for at, (start, nbytes) in enumerate(zip(starts, layout.nbytes, strict=True))
            ]
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


def _copy(result: mmap.mmap, start: int, nbytes: int, dtype: np.dtype[Any]) -> Array:
    out = np.empty(nbytes // dtype.itemsize, dtype)
    out.view(np.uint8)[:] = np.frombuffer(result, np.uint8, nbytes, start)
    return out


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
