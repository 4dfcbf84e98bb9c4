"""Quarantine: a PC that fails where others succeed gets no frames until an operator releases it.

A failure says nothing yet: the scene may be at fault. It becomes a *strike* of its PC only when another PC finished the
same frame. A frame that fails everywhere leaves no strike. Two strikes quarantine a PC. Failed renders are forgotten as
soon as the PC finishes a frame by itself; broken pictures, and frames the server refused as broken, are not, because
they endanger the account.

Kept in the ledger under ``quarantine``, so that a restart releases nobody::

    {node id: {"name": …, "strikes": [{"kind": …, "what": …}], "is_quarantined": bool}}
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease
from sheepfold.contract.api_messages import FailureKind

log = logging.getLogger(__name__)

#: One may be chance.
STRIKES_TO_QUARANTINE = 2
_KEPT = "quarantine"


class StrikeKind(StrEnum):
    """What a PC did where others did better."""

    FAILED = "failed"
    BROKEN_PICTURE = "broken picture"
    #: The server refused the frame as broken.
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One frame that a PC got wrong and another PC finished, or that the server refused."""

    kind: StrikeKind
    #: Frame and reason, for a person.
    what: str


@dataclass(kw_only=True)
class _Record:
    name: str = ""
    strikes: list[Strike] = field(default_factory=list)
    is_quarantined: bool = False


class NodeQuarantine:
    """The strikes of every PC, and which PCs are quarantined for them. Thread-safe."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}
        #: Lease id → the strike each PC that failed it gets, should another succeed.
        self._open: dict[str, dict[str, Strike]] = {}

    def load(self) -> NodeQuarantine:
        """Takes up the strikes from before a restart, before anything else is asked of it; returns itself."""
        self._records = _read(self._store.get(_KEPT))
        return self

    def failed(self, lease: Lease, node_id: str, name: str, kind: FailureKind, reason: str) -> None:
        """An attempt failed; whose fault it was shows later."""
        strike_kind = StrikeKind.BROKEN_PICTURE if kind is FailureKind.BAD_PICTURE else StrikeKind.FAILED
        with self._lock:
            self._open.setdefault(lease.id, {})[node_id] = Strike(kind=strike_kind, what=f"{lease.label}: {reason}")
            record = self._records.setdefault(node_id, _Record())
            record.name = name or record.name

    def succeeded(self, lease: Lease) -> list[str]:
        """A picture that may go to the server arrived from ``lease.node_id``; ids of PCs that this quarantines."""
        with self._lock:
            strikes = self._open.pop(lease.id, {})
            strikes.pop(lease.node_id or "", None)
            own = self._records.get(lease.node_id or "")
            if own is not None and not own.is_quarantined:
                own.strikes = [strike for strike in own.strikes if strike.kind is not StrikeKind.FAILED]
            gone = [node_id for node_id, strike in strikes.items() if self._strike(node_id, strike)]
            if own is not None or strikes:
                self._keep()
        return gone

    def refused(self, lease: Lease, name: str, reason: str) -> bool:
        """The server refused a frame as broken; true when this quarantines its PC."""
        with self._lock:
            record = self._records.setdefault(lease.node_id or "", _Record())
            record.name = name or record.name
            strike = Strike(kind=StrikeKind.REFUSED, what=f"{lease.label}: {reason}")
            is_new = self._strike(lease.node_id or "", strike)
            self._keep()
        return is_new

    def ended(self, lease: Lease) -> None:
        """The lease ended without a picture; its failures were nobody's."""
        with self._lock:
            self._open.pop(lease.id, None)

    def is_quarantined(self, node_id: str) -> bool:
        """Whether the PC gets no more frames."""
        record = self._records.get(node_id)
        return record is not None and record.is_quarantined

    def is_trusted(self, node_id: str) -> bool:
        """Whether the PC's pictures count for others."""
        return not self.is_quarantined(node_id)

    def strikes_of(self, node_id: str) -> list[str]:
        """What a person is told about the PC."""
        with self._lock:
            record = self._records.get(node_id)
            return [f"{strike.kind.value}: {strike.what}" for strike in record.strikes] if record else []

    def quarantined(self) -> dict[str, str]:
        """Node id → name of every quarantined PC."""
        with self._lock:
            return {
                node_id: record.name or node_id for node_id, record in self._records.items() if record.is_quarantined
            }

    def release(self, name: str) -> bool:
        """Forgets a PC's strikes and ends its quarantine, by name or id; false when no PC of that name has a strike."""
        with self._lock:
            found = [node_id for node_id, record in self._records.items() if name in (record.name, node_id)]
            for node_id in found:
                log.info("%s is released", self._records.pop(node_id).name or node_id)
                for strikes in self._open.values():
                    strikes.pop(node_id, None)
            if found:
                self._keep()
            return bool(found)

    def _strike(self, node_id: str, strike: Strike) -> bool:
        """True when this strike quarantines the PC."""
        record = self._records.setdefault(node_id, _Record())
        record.strikes.append(strike)
        log.warning("%s has a strike for %s", record.name or node_id, strike.what)
        if len(record.strikes) < STRIKES_TO_QUARANTINE or record.is_quarantined:
            return False
        record.is_quarantined = True
        log.error(
            "%s is quarantined after %d frames that went wrong there and not elsewhere; when it is mended: "
            "sheepfold node release %s",
            record.name or node_id,
            len(record.strikes),
            record.name or node_id,
        )
        return True

    def _keep(self) -> None:
        records = {node_id: _stored(record) for node_id, record in self._records.items() if record.strikes}
        self._store.put(_KEPT, json.dumps(records))


def _stored(record: _Record) -> dict[str, Any]:
    strikes = [asdict(strike) for strike in record.strikes]
    return {"name": record.name, "strikes": strikes, "is_quarantined": record.is_quarantined}


def _read(text: str | None) -> dict[str, _Record]:
    try:
        return {
            node_id: _Record(
                name=stored["name"],
                strikes=[Strike(kind=StrikeKind(strike["kind"]), what=strike["what"]) for strike in stored["strikes"]],
                is_quarantined=stored["is_quarantined"],
            )
            for node_id, stored in json.loads(text or "{}").items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        log.error("the strikes in the ledger cannot be read: no PC is quarantined any more")
        return {}
