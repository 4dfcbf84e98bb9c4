"""Which farm this PC belongs to: learned when it first joins, and never changed by what somebody says later.

Who answers at the coordinator's address may be another one tomorrow: a false coordinator, or a wrong address. A worker
follows the orders of the farm it joined first, which the file ``farm`` of its work folder names::

    {"farm_id": …, "order_key": …}      mode 0600; both as in :class:`~sheepfold.contract.api_messages.JoinAnswer`

An operator whose farm was set up anew removes it with ``sheepfold forget-farm``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from render_tasks.errors import FarmChanged, UnsafeFile
from render_tasks.untrusted.files import read_start
from render_tasks.untrusted.removal import set_aside
from sheepfold.atomic_files import write_atomically
from sheepfold.contract.api_messages import JoinAnswer
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.signing import FarmKey, public_key_from

_FILE = "farm"
_MOST_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class _Pin:
    """What the file says."""

    farm_id: str
    order_key: str


class PinnedFarm:
    """The farm that a work folder belongs to."""

    def __init__(self, work_dir: Path) -> None:
        self._folder = work_dir
        #: From the first look on: whatever becomes of the file, a running worker belongs to one farm.
        self._known: FarmKey | None = None

    def peek(self) -> FarmKey | None:
        """The farm that the file names; ``None`` where it is missing or names none. Raises OSError."""
        try:
            pin = from_json(_Pin, read_start(self._folder, _FILE, most_bytes=_MOST_BYTES))
            return FarmKey(farm_id=pin.farm_id, order_key=public_key_from(pin.order_key))
        except (FileNotFoundError, UnsafeFile, MalformedContract):
            return None

    def accept(self, answer: JoinAnswer) -> FarmKey:
        """The farm that a coordinator says it is; the first one is written down.

        What lies in the file's place and names no farm is set aside. Raises :class:`FarmChanged` where it is another
        one than this PC's, MalformedContract and OSError.
        """
        told = FarmKey(farm_id=answer.farm_id, order_key=public_key_from(answer.order_key))
        pinned = self._known or self.peek()
        if pinned is None:
            self._write(_Pin(farm_id=answer.farm_id, order_key=answer.order_key))
        elif pinned.label != told.label:
            raise FarmChanged(pinned.label, told.label)
        self._known = told
        return told

    def forget(self) -> str:
        """The next farm that this PC joins is its farm; what the one before was called, empty: there was none."""
        pinned = self.peek()
        (self._folder / _FILE).unlink(missing_ok=True)
        return pinned.label if pinned else ""

    def _write(self, pin: _Pin) -> None:
        path = self._folder / _FILE
        if os.path.lexists(path):
            set_aside(path, "names no farm")
        write_atomically(path, to_json(pin).encode())
