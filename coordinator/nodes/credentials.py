"""What proves that a caller is the node it names: each node's own secret, of which the ledger keeps a hash.

A worker makes its secret once and keeps it beside its node id. The first to join under an id decides which secret goes
with it; from then on joins and claims under that id need it. The farm token alone makes nobody another node.

Kept in the ledger under ``node-credentials``, those that joined last at the end, and under ``node-revoked`` those whose
node an operator revoked::

    {node id: SHA-256 of its secret, hex}
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Collection
from typing import cast

from coordinator.leases.key_value import KeyValueStore

from .errors import TooManyNodes

log = logging.getLogger(__name__)

#: More PCs than any studio has. Beyond it, those that joined longest ago and are not here are forgotten.
MOST_NODES = 5000
_KEPT, _REVOKED = "node-credentials", "node-revoked"


class NodeCredentials:
    """Hashes of the nodes' secrets. Thread-safe; knows nothing until it is first asked."""

    def __init__(self, store: KeyValueStore, *, most_nodes: int = MOST_NODES) -> None:
        self._store, self._most_nodes = store, most_nodes
        self._lock = threading.Lock()
        #: Replaced as a whole, so that it is read without the lock.
        self._hashes: dict[str, str] | None = None
        self._revoked: dict[str, str] | None = None

    def is_right(self, node_id: str, secret: str) -> bool:
        """Whether this is the node's secret; false for a node that never joined."""
        known = self._known().get(node_id)
        return known is not None and hmac.compare_digest(known, _hash(secret))

    def is_taken(self, node_id: str, secret: str) -> bool:
        """Whether the node is known, and by another secret; nobody becomes one that was revoked."""
        if node_id in self._known_revoked():
            return True
        known = self._known().get(node_id)
        return known is not None and not hmac.compare_digest(known, _hash(secret))

    def fingerprint(self, node_id: str) -> str | None:
        """The hash of the node's secret: another one where another worker is that node; ``None`` for no node."""
        return self._known().get(node_id)

    def node_ids(self) -> Collection[str]:
        """Every node that has a secret here."""
        return self._known().keys()

    def revoke(self, node_id: str) -> None:
        """The node's secret proves nothing from now on, under whatever id it is shown, and nobody else gets its id."""
        with self._lock:
            hashes, revoked = dict(self._known()), dict(self._known_revoked())
            revoked[node_id] = hashes.pop(node_id, "")
            self._store.put(_REVOKED, json.dumps(revoked))
            self._store.put(_KEPT, json.dumps(hashes))
            self._hashes, self._revoked = hashes, revoked

    def is_revoked(self, node_id: str, secret: str = "") -> bool:
        """Whether this node, or the one that had this secret, was revoked."""
        revoked = self._known_revoked()
        return node_id in revoked or _hash(secret) in revoked.values()

    def admit(self, node_id: str, secret: str, present: Collection[str]) -> bool:
        """Whether the secret is the node's, or becomes it because nobody has joined under this id yet.

        Raises TooManyNodes, and what the ledger raises.
        """
        with self._lock:
            hashes = dict(self._known())
            if node_id in hashes:
                return hmac.compare_digest(hashes[node_id], _hash(secret))
            if len(hashes) >= self._most_nodes:
                gone = next((known for known in hashes if known not in present), None)
                if gone is None:
                    raise TooManyNodes(self._most_nodes)
                del hashes[gone]
            hashes[node_id] = _hash(secret)
            self._store.put(_KEPT, json.dumps(hashes))
            self._hashes = hashes
            return True

    def _known(self) -> dict[str, str]:
        if self._hashes is None:
            self._hashes = _read(self._store.get(_KEPT))
        return self._hashes

    def _known_revoked(self) -> dict[str, str]:
        if self._revoked is None:
            self._revoked = _read(self._store.get(_REVOKED))
        return self._revoked


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(text: str | None) -> dict[str, str]:
    try:
        return {str(node_id): str(kept) for node_id, kept in cast("dict[str, str]", json.loads(text or "{}")).items()}
    except (ValueError, AttributeError):
        log.error("what was kept of the PCs' secrets cannot be read: each PC names its own again when it joins")
        return {}
