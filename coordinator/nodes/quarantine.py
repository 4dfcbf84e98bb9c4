"""How PCs behave: one that fails where others succeed is set aside until an operator forgives it.

A failure says nothing yet: the scene may be at fault. It becomes a *mark* of its PC only when another PC finished the
same frame. A frame that fails everywhere leaves no mark. Two marks set a PC aside. Failed renders are forgotten as soon
as the PC finishes a frame by itself; broken pictures, and frames the server refused as broken, are not, because they
endanger the account.

Kept in the ledger under ``conduct``, so that a restart forgives nobody::

    {node id: {"name": …, "marks": [{"kind": …, "what": …}], "set_aside": bool}}
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease
from sheepfold.contract.api_messages import FailureKind

log = logging.getLogger(__name__)

#: One may be chance.
MARKS_TO_SET_ASIDE = 2
_KEPT = "conduct"


class StrikeKind(StrEnum):
    """What a PC did where others did better."""

    FAILED = "failed"
    BROKEN_PICTURE = "broken picture"
    #: The server refused the frame as broken.
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One frame."""

    kind: StrikeKind
    #: Frame and reason, for a person.
    what: str


@dataclass(kw_only=True)
class _Record:
    name: str = ""
    marks: list[Strike] = field(default_factory=list)
    set_aside: bool = False


class NodeQuarantine:
    """Marks of the LAN's PCs. Thread-safe."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._records = _read(store.get(_KEPT))
        #: Lease id → what each PC that failed it is to be marked with, should another succeed.
        self._open: dict[str, dict[str, Strike]] = {}

    def failed(self, lease: Lease, node_id: str, name: str, kind: FailureKind, reason: str) -> None:
        """An attempt failed; whose fault it was shows later."""
        mark_kind = StrikeKind.BROKEN_PICTURE if kind is FailureKind.BAD_PICTURE else StrikeKind.FAILED
        with self._lock:
            self._open.setdefault(lease.id, {})[node_id] = Strike(kind=mark_kind, what=f"{lease.label}: {reason}")
            record = self._records.setdefault(node_id, _Record())
            record.name = name or record.name

    def succeeded(self, lease: Lease) -> list[str]:
        """A picture that may go to the server arrived from ``lease.node_id``; ids of PCs that this sets aside."""
        with self._lock:
            marks = self._open.pop(lease.id, {})
            marks.pop(lease.node_id or "", None)
            own = self._records.get(lease.node_id or "")
            if own is not None and not own.set_aside:
                own.marks = [mark for mark in own.marks if mark.kind is not StrikeKind.FAILED]
            gone = [node_id for node_id, mark in marks.items() if self._mark(node_id, mark)]
            if own is not None or marks:
                self._keep()
        return gone

    def refused(self, lease: Lease, name: str, reason: str) -> bool:
        """The server refused a frame as broken; true when this sets its PC aside."""
        with self._lock:
            record = self._records.setdefault(lease.node_id or "", _Record())
            record.name = name or record.name
            mark = Strike(kind=StrikeKind.REFUSED, what=f"{lease.label}: {reason}")
            is_new = self._mark(lease.node_id or "", mark)
            self._keep()
        return is_new

    def ended(self, lease: Lease) -> None:
        """The lease ended without a picture; its failures were nobody's."""
        with self._lock:
            self._open.pop(lease.id, None)

    def is_set_aside(self, node_id: str) -> bool:
        """Whether the PC gets no more frames."""
        record = self._records.get(node_id)
        return record is not None and record.set_aside

    def is_trusted(self, node_id: str) -> bool:
        """Whether the PC's pictures count for others."""
        return not self.is_set_aside(node_id)

    def marks_of(self, node_id: str) -> list[str]:
        """What a person is told about the PC."""
        with self._lock:
            record = self._records.get(node_id)
            return [f"{mark.kind.value}: {mark.what}" for mark in record.marks] if record else []

    def set_aside(self) -> dict[str, str]:
        """Node id → name of every PC that is set aside."""
        with self._lock:
            return {node_id: record.name or node_id for node_id, record in self._records.items() if record.set_aside}

    def release(self, name: str) -> bool:
        """Gives a PC a fresh start, by name or id; false when nobody of that name has a mark."""
        with self._lock:
            found = [node_id for node_id, record in self._records.items() if name in (record.name, node_id)]
            for node_id in found:
                log.info("%s is forgiven", self._records.pop(node_id).name or node_id)
                for marks in self._open.values():
                    marks.pop(node_id, None)
            if found:
                self._keep()
            return bool(found)

    def _mark(self, node_id: str, mark: Strike) -> bool:
        """True when this mark sets the PC aside."""
        record = self._records.setdefault(node_id, _Record())
        record.marks.append(mark)
        log.warning("%s has a mark for %s", record.name or node_id, mark.what)
        if len(record.marks) < MARKS_TO_SET_ASIDE or record.set_aside:
            return False
        record.set_aside = True
        log.error(
            "%s is set aside after %d frames that went wrong there and not elsewhere; when it is mended: "
            "sheepfold node forgive %s",
            record.name or node_id,
            len(record.marks),
            record.name or node_id,
        )
        return True

    def _keep(self) -> None:
        records = {node_id: asdict(record) for node_id, record in self._records.items() if record.marks}
        self._store.put(_KEPT, json.dumps(records))


def _read(text: str | None) -> dict[str, _Record]:
    try:
        return {
            node_id: _Record(
                name=one["name"],
                marks=[Strike(kind=StrikeKind(mark["kind"]), what=mark["what"]) for mark in one["marks"]],
                set_aside=one["set_aside"],
            )
            for node_id, one in json.loads(text or "{}").items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        log.error("what was kept of the PCs' conduct cannot be read; everybody starts afresh")
        return {}
