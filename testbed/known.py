"""Names that others know (codecs, devices, models, data sets), each with why it cannot be used here, empty if it can.

Imported when asked: a scenario must be readable, with an error line of its own, where an optional library is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def _codecs(kinds: tuple[str, ...]) -> Mapping[str, str]:
    from fedsz import codecs as known

    return {
        codec_id: "" if info.available else "; ".join(part for part in (info.why, info.install) if part)
        for codec_id, info in known().items()
        if info.kind in kinds
    }


def codecs() -> Mapping[str, str]:
    """Codecs for the lossy tensors, and ``none``. ImportError if `fedsz` cannot be imported."""
    return _codecs(("lossy", "none"))


def lossless_codecs() -> Mapping[str, str]:
    """Codecs for the other tensors. ImportError if `fedsz` cannot be imported."""
    return _codecs(("lossless",))


def devices() -> Mapping[str, str]:
    """Device profiles. ImportError if `devices` cannot be imported."""
    from devices import catalogue

    return dict.fromkeys(catalogue(), "")


def models() -> Mapping[str, str]:
    """Networks that can be trained. ImportError if torch or torchvision cannot be imported."""
    from testbed.learning.models import model_names

    return dict.fromkeys(model_names(), "")


def datasets() -> Mapping[str, str]:
    """Data sets that we can read, whether or not their files are here. ImportError as above."""
    from testbed.learning.data import DATASETS

    return dict.fromkeys(DATASETS, "")


# What needs no library to be known.
OUR_MODELS = ("cnn",)

# A user's own, by the look of its name.
OWN_MODEL, OWN_DATA = r"\.py:\w+$", r"\.npz$"


def own(name: str, folder: Path) -> str:
    """A user's own model or data, with its full path. LearningError where it is not there; ImportError as above."""
    from testbed.learning.own import located

    return located(name, folder)
