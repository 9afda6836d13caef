"""Every error survives what SimPy, pickle and worker processes do to it."""

from __future__ import annotations

import pickle

import pytest

from fedsz import errors

EXAMPLES = [
    errors.UnknownCodecError("sz22", ("sz2", "sz3")),
    errors.CodecUnavailableError("zfp", "no module named zfpy", "install zfpy"),
    errors.InvalidBoundError("value is a finite number >= 0", -1.0),
    errors.UnsupportedTensorError("w", "dtype object is not supported"),
    errors.StateFileError("model.npz", "holds no state dict"),
    errors.ReferenceMismatchError("aa", None),
    errors.ReferenceMismatchError("aa", "bb"),
    errors.PayloadTooLargeError(10, 5),
    *(
        kind("what")
        for kind in (
            errors.PayloadError,
            errors.TruncatedPayloadError,
            errors.ChecksumError,
            errors.VersionError,
            errors.MalformedPayloadError,
            errors.DecoderCrashedError,
        )
    ),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_rebuilt_from_its_arguments(error: errors.FedSZError) -> None:
    assert str(type(error)(*error.args)) == str(error) != ""
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_error_class_is_missing_here() -> None:
    defined = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert defined - {errors.FedSZError} == {type(error) for error in EXAMPLES}


def test_texts() -> None:
    assert str(EXAMPLES[0]) == "unknown codec 'sz22'; registered: sz2, sz3; did you mean 'sz2'?"
    assert str(EXAMPLES[1]) == "codec 'zfp' cannot be used here: no module named zfpy; install zfpy"
    assert str(EXAMPLES[5]) == "payload needs the reference with digest aa; none was given"
    assert str(EXAMPLES[7]) == "payload claims 10 decoded bytes; max_bytes allows 5"
