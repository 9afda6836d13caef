"""How far a value may move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fedsz.errors import InvalidBoundError

BoundMode = Literal["REL", "ABS", "REL_STATE"]
MODES: tuple[BoundMode, ...] = get_args(BoundMode)


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """An error bound: mode and number together.

    Attributes:
        mode: ``REL``, times (max - min) of the finite values of each tensor on its own, FedSZ's mode
            (arXiv:2312.13461); ``ABS``, in the tensor's unit; ``REL_STATE``, times (max - min) over all lossy
            tensors of the state together, for comparison with work that flattens the whole model.
        value: finite and at least 0, which means lossless.

    Raises:
        InvalidBoundError: an unknown mode, or a value that is NaN, negative, infinite or no number.
    """

    mode: BoundMode
    value: float

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidBoundError(f"mode is one of {', '.join(MODES)}", self.mode)
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            try:
                number = float(self.value)
            except (TypeError, ValueError):
                raise InvalidBoundError("value is a number >= 0", self.value) from None
        else:
            number = float(self.value)
        if not math.isfinite(number) or number < 0:
            raise InvalidBoundError("value is a finite number >= 0", self.value)
        object.__setattr__(self, "value", number)

    def absolute(self, value_range: float) -> float:
        """Bound in the tensor's unit, for a tensor (or, with REL_STATE, a state) whose max - min is *value_range*."""
        return self.value if self.mode == "ABS" else self.value * value_range
