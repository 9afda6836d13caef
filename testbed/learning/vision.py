"""The one place that imports torchvision.

Where torch is a CPU build and torchvision was built for CUDA, importing torchvision fails with "operator
torchvision::nms does not exist": its Python side registers a fake kernel for an operator whose schema only the
compiled side would have declared. Declaring the two schemas ourselves makes models, data sets and transforms work;
detection, which would call the missing kernels, is not used here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # schemas live as long as this object


def torchvision() -> ModuleType:
    """torchvision, imported so that it works with any build of torch."""
    global _library
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half-imported
    _library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        _library.define(schema)  # type: ignore[no-untyped-call]
    return importlib.import_module("torchvision")
