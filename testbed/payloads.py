"""Payloads that a run keeps for replays over real links: one file each, named by its SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from testbed.errors import RecordError
from testbed.files import write_once
from testbed.record import PAYLOADS


class PayloadStore:
    """The payloads of one result folder; equal payloads are kept once."""

    def __init__(self, results: Path) -> None:
        self._folder = results / PAYLOADS

    @property
    def exists(self) -> bool:
        """Whether anything was kept here."""
        return self._folder.is_dir()

    def keep(self, payload: bytes, digest: str) -> None:
        """Write *payload* unless it is there."""
        path = self._folder / digest
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            write_once(path, payload)

    def read(self, digest: str) -> bytes:
        """The payload with this digest. RecordError where it is missing or has changed."""
        path = self._folder / digest
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise RecordError(str(path), f"a kept payload is missing ({error.strerror})") from error
        if hashlib.sha256(payload).hexdigest() != digest:
            raise RecordError(str(path), "a kept payload is damaged: its SHA-256 is not its name")
        return payload
