"""What the ledger stores, and how a lease becomes rows and rows become a lease.

Schema, version 3 (times are Unix seconds)::

    schema_version  version                         one row
    scripts         digest, text                    the server's script, once however many frames carry it
    leases          id, session_key, job_id, frame, offer (JSON, without its script and with its secrets sealed, see
                    :mod:`coordinator.leases.sealing`), script (digest), state, attempt,
                    node_id, delivery (JSON), failures, tried_nodes (JSON), held_back (JSON; since version 2),
                    nodes_lost (since version 3), granted_at, changed_at, ended_at, reason, answer
    attempts        lease_id, attempt, node_id, ordered_at, started_at, ended_at, outcome, reason, render_s,
                    memory_kb, bytes                one row for each order; accounting reads it
    kept            key, value                      small texts that survive a restart, see
                                                    :mod:`coordinator.leases.key_value`

A change of the schema raises :data:`SCHEMA_VERSION` and adds the way there to :data:`MIGRATIONS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from sheepfold.protocol.messages import Chunk, JobOffer, RendererOffer

from .errors import LedgerTooNew
from .lease import ACTIVE, Delivery, HeldBack, Lease, LeaseEvent, LeaseState
from .sealing import Sealer

SCHEMA_VERSION = 3

#: Version → the statements that lead from it to the next one.
MIGRATIONS: dict[int, Sequence[str]] = {
    1: ("ALTER TABLE leases ADD COLUMN held_back JSON",),
    2: ("ALTER TABLE leases ADD COLUMN nodes_lost INTEGER NOT NULL DEFAULT 0",),
}

metadata = sa.MetaData()
_json_or_null = sa.JSON(none_as_null=True)

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))

scripts = sa.Table(
    "scripts",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("session_key", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("frame", sa.Text, nullable=False),
    sa.Column("offer", sa.JSON, nullable=False),
    sa.Column("script", sa.Text, sa.ForeignKey("scripts.digest"), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("node_id", sa.Text),
    sa.Column("delivery", _json_or_null),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("tried_nodes", sa.JSON, nullable=False),
    sa.Column("held_back", _json_or_null),
    sa.Column("nodes_lost", sa.Integer, nullable=False, server_default="0"),
    sa.Column("granted_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("answer", sa.Integer),
    # Finds the few active leases (NULL) at start and the latest history, and counts states without reading the rows.
    sa.Index("leases_by_end", "ended_at", "state"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("lease_id", sa.Text, sa.ForeignKey("leases.id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("node_id", sa.Text),
    sa.Column("ordered_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("outcome", sa.String(16)),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("render_s", sa.Float),
    sa.Column("memory_kb", sa.Integer),
    sa.Column("bytes", sa.Integer),
)

key_values = sa.Table(
    "kept", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

#: Fields of an offer that nobody may read in the file.
_SECRETS = ("password", "validation_url")

_MOVING = (
    "state",
    "attempt",
    "node_id",
    "delivery",
    "failures",
    "tried_nodes",
    "held_back",
    "nodes_lost",
    "reason",
    "changed_at",
    "ended_at",
)


def _given(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(column.name, type_=column.type)


def _given_or_unchanged(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(_given(column), column)


# The fence stands in the WHERE clause too: memory and file can't drift apart unnoticed.
UPDATE_LEASE = (
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("_id"))
    .where(leases.c.state == sa.bindparam("_state"), leases.c.attempt == sa.bindparam("_attempt"))
    .values({name: _given(leases.c[name]) for name in _MOVING} | {"answer": _given_or_unchanged(leases.c.answer)})
)
UPDATE_ATTEMPT = (
    sa.update(attempts)
    .where(attempts.c.lease_id == sa.bindparam("_id"), attempts.c.attempt == sa.bindparam("_attempt"))
    .values(
        {
            name: _given_or_unchanged(attempts.c[name])
            for name in ("started_at", "outcome", "reason", "render_s", "memory_kb", "bytes")
        }
        # An attempt ended with its delivery, whenever the server answers.
        | {"ended_at": sa.func.coalesce(attempts.c.ended_at, _given(attempts.c.ended_at))}
    )
)
INSERT_LEASE = sa.insert(leases)
INSERT_ATTEMPT = sa.insert(attempts)
SELECT_LEASES = sa.select(leases, scripts.c.text.label("script_text")).join(scripts)


def prepare_schema(
    connection: sa.Connection,
    *,
    target: int = SCHEMA_VERSION,
    migrations: Mapping[int, Sequence[str]] = MIGRATIONS,
) -> None:
    """Create the tables, or bring those of an older sheepfold to ``target``, inside the caller's transaction.

    Raises :class:`~coordinator.leases.errors.LedgerTooNew`.
    """
    if not sa.inspect(connection).has_table(schema_version.name):
        metadata.create_all(connection)
        connection.execute(sa.insert(schema_version).values(version=target))
        return
    found = connection.execute(sa.select(schema_version.c.version)).scalar_one()
    if found > target:
        raise LedgerTooNew(found, target)
    for version in range(found, target):
        for statement in migrations[version]:
            connection.exec_driver_sql(statement)
    if found < target:
        connection.execute(sa.update(schema_version).values(version=target))


def put_text(connection: sa.Connection, key: str, value: str) -> None:
    """Insert the value, or replace the one under this key."""
    if connection.execute(sa.update(key_values).where(key_values.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(sa.insert(key_values).values(key=key, value=value))


def insert_script(connection: sa.Connection, digest: str, text: str) -> None:
    """Insert a script unless it is there."""
    if connection.execute(sa.select(scripts.c.digest).where(scripts.c.digest == digest)).first() is None:
        connection.execute(sa.insert(scripts).values(digest=digest, text=text))


def script_digest(text: str) -> str:
    """The key of a script's row: leases with the same script share it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def lease_row(lease: Lease, sealer: Sealer) -> dict[str, Any]:
    """A new lease as the values of an insert."""
    offer = vars(lease.offer) | {
        "renderer": vars(lease.offer.renderer),
        "chunks": [vars(chunk) for chunk in lease.offer.chunks],
    }
    del offer["script"]
    secrets = {name: secret for name in _SECRETS if (secret := offer.pop(name))}
    if secrets:
        offer["sealed"] = sealer.seal(json.dumps(secrets))
    return {
        "id": lease.id,
        "session_key": lease.session_key,
        "job_id": lease.offer.job_id,
        "frame": lease.offer.frame,
        "offer": offer,
        "script": script_digest(lease.offer.script),
        "granted_at": lease.granted_at,
        "answer": None,
        **moving_columns(lease),
    }


def moving_columns(lease: Lease) -> dict[str, Any]:
    """What a transition may change, as column values."""
    return {
        "state": lease.state.value,
        "attempt": lease.attempt,
        "node_id": lease.node_id,
        "delivery": vars(lease.delivery) if lease.delivery else None,
        "failures": lease.failures,
        "tried_nodes": list(lease.tried_nodes),
        "held_back": asdict(lease.held_back) if lease.held_back else None,
        "nodes_lost": lease.nodes_lost,
        "reason": lease.reason,
        "changed_at": lease.changed_at,
        "ended_at": None if lease.state in ACTIVE else lease.changed_at,
    }


def lease_update(before: Lease, after: Lease, answer: int | None) -> dict[str, Any]:
    """Parameters of :data:`UPDATE_LEASE`, which changes nothing unless the row is still as ``before``."""
    fence = {"_id": before.id, "_state": before.state.value, "_attempt": before.attempt}
    return fence | moving_columns(after) | {"answer": answer}


def attempt_row(ordered: Lease) -> dict[str, Any]:
    """A fresh order as the values of an insert."""
    return {
        "lease_id": ordered.id,
        "attempt": ordered.attempt,
        "node_id": ordered.node_id,
        "ordered_at": ordered.changed_at,
        "reason": "",
    }


def attempt_update(before: Lease, after: Lease, event: LeaseEvent, reason: str) -> dict[str, Any]:
    """Parameters of :data:`UPDATE_ATTEMPT`: what ``event`` means for the attempt it ends or carries on."""
    started = event is LeaseEvent.START
    held_back = after.held_back.delivery if after.held_back and event is LeaseEvent.HOLD_BACK else None
    delivery = after.delivery if event is LeaseEvent.DELIVER else held_back
    is_over = after.state is LeaseState.GRANTED or event is LeaseEvent.BELIEVE
    outcome = event.value if is_over else after.state.value
    return {
        "_id": before.id,
        "_attempt": before.attempt,
        "started_at": after.changed_at if started else None,
        "ended_at": None if started else after.changed_at,
        "outcome": None if started else outcome,
        "reason": reason or None,
        "render_s": delivery.render_s if delivery else None,
        "memory_kb": delivery.memory_kb if delivery else None,
        "bytes": delivery.size if delivery else None,
    }


def _offer_of(row: sa.Row[Any], sealer: Sealer) -> JobOffer:
    fields: dict[str, Any] = dict(row.offer)
    secrets: dict[str, Any] = {}
    if sealed := fields.pop("sealed", None):
        secrets = json.loads(sealer.open(sealed) or "{}")
    fields |= {"renderer": RendererOffer(**fields["renderer"]), "script": row.script_text}
    fields["chunks"] = tuple(Chunk(**chunk) for chunk in fields.get("chunks", ()))
    return JobOffer(**fields, **secrets)


def lease_of(row: sa.Row[Any], sealer: Sealer) -> Lease:
    """The lease behind a row of :data:`SELECT_LEASES`."""
    return Lease(
        id=row.id,
        session_key=row.session_key,
        offer=_offer_of(row, sealer),
        state=LeaseState(row.state),
        attempt=row.attempt,
        node_id=row.node_id,
        delivery=Delivery(**row.delivery) if row.delivery else None,
        failures=row.failures,
        tried_nodes=tuple(row.tried_nodes),
        held_back=_held_back_of(row.held_back),
        nodes_lost=row.nodes_lost,
        granted_at=row.granted_at,
        changed_at=row.changed_at,
        reason=row.reason,
    )


def _held_back_of(stored: Mapping[str, Any] | None) -> HeldBack | None:
    return HeldBack(node_id=stored["node_id"], delivery=Delivery(**stored["delivery"])) if stored else None
