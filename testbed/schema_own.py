"""A name that the testbed knows, or a file of the user's own beside the scenario."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.schema import At, Known
from testbed.yaml_position import Scalar, Tree


class KnownOrFile(Known):
    """As `Known`; a name of the form *pattern* is a file, and is written back with its full path.

    Args:
        pattern: regular expression of such names, also for editors.
        located: the name and the scenario's folder -> the name with a full path. Raises a TestbedError that says what
            is wrong; may raise ImportError.
        example: of such a name.
    """

    def __init__(
        self,
        noun: str,
        names: Callable[[], Mapping[str, str]],
        pattern: str,
        located: Callable[[str, Path], str],
        example: str,
        ours: tuple[str, ...] = (),
    ) -> None:
        super().__init__(noun, names, ours)
        self._pattern, self._located = pattern, located
        self.meaning = f"the name of a {noun}, or a file such as {example}, is expected"

    def read(self, tree: Tree, at: At) -> str:
        if not (
            isinstance(tree, Scalar) and isinstance(tree.value, str) and re.search(self._pattern, tree.value)
        ):
            return super().read(tree, at)
        try:
            return self._located(tree.value, Path(tree.place.file).parent)
        except (TestbedError, ImportError) as error:
            raise at.refuse(tree.place, str(error)) from error

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [super().json_schema(), {"type": "string", "pattern": self._pattern}]}
