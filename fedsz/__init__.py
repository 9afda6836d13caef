"""FedSZ: error-bounded compression of federated-learning updates. Update in, bytes out.

payload = fedsz.compress(model.state_dict(), fedsz.ErrorBound("REL", 1e-2), codec="sz2")
model.load_state_dict(fedsz.decompress(payload))
"""

from importlib.util import find_spec

from fedsz import lossless, sz2, sz3, zfp  # noqa: F401  (importing a codec registers it)
from fedsz.arrays import StateArray, to_torch
from fedsz.bound import ErrorBound
from fedsz.compression import compress
from fedsz.decompression import decompress
from fedsz.delta import TensorDelta, deltas
from fedsz.errors import (
    ChecksumError,
    CodecUnavailableError,
    DecoderCrashedError,
    FedSZError,
    InvalidBoundError,
    MalformedPayloadError,
    PayloadError,
    PayloadTooLargeError,
    ReferenceMismatchError,
    StateFileError,
    TruncatedPayloadError,
    UnknownCodecError,
    UnsupportedTensorError,
    VersionError,
)
from fedsz.globalmodel import Reference
from fedsz.inspection import Inspection, TensorRow, compression_ratio, inspect, update_bytes
from fedsz.isolate import Isolation
from fedsz.partition import Partition
from fedsz.registry import CodecInfo, codecs

for _own in ("quantise", "dither", "szx"):
    if find_spec(f"fedsz.{_own}") is not None:
        __import__(f"fedsz.{_own}")

__all__ = [
    "ChecksumError",
    "CodecInfo",
    "CodecUnavailableError",
    "DecoderCrashedError",
    "ErrorBound",
    "FedSZError",
    "Inspection",
    "InvalidBoundError",
    "Isolation",
    "MalformedPayloadError",
    "Partition",
    "PayloadError",
    "PayloadTooLargeError",
    "Reference",
    "ReferenceMismatchError",
    "StateArray",
    "StateFileError",
    "TensorDelta",
    "TensorRow",
    "TruncatedPayloadError",
    "UnknownCodecError",
    "UnsupportedTensorError",
    "VersionError",
    "codecs",
    "compress",
    "compression_ratio",
    "decompress",
    "deltas",
    "inspect",
    "to_torch",
    "update_bytes",
]
