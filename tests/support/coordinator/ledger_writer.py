"""Writes leases without a pause until it is killed, and says each one aloud once it is on disk.

``python -m tests.support.coordinator.ledger_writer LEDGER_FILE``

prints a line ``<lease id> <state> <attempt>`` after each transition.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from coordinator.leases.lease import Delivery, Lease, LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_database import LedgerDatabase, sqlite_url
from sheepfold.protocol.messages import JobOffer, RendererOffer

DELIVERY = Delivery(picture="ab.1.png", size=10, render_s=1.5, memory_kb=2, cores=4)


def offer(frame: int) -> JobOffer:
    """Some frame."""
    return JobOffer(
        job_id="12",
        frame=f"{frame:04d}",
        path="shots/demo.blend",
        use_gpu=False,
        archive_md5="a" * 32,
        revision="1",
        renderer=RendererOffer(md5="b" * 32, command_line=".e -b .c -o .o -f .f -x 1"),
        script="import bpy\n" * 100,
        extras="opaque & <odd>",
    )


def print_lease(lease: Lease) -> None:
    """One write, so that a line is whole or not there."""
    os.write(1, f"{lease.id} {lease.state.value} {lease.attempt}\n".encode())


def write_leases(ledger: Ledger, first_frame: int) -> None:
    """One lease after the other through all of its life."""
    for frame in range(first_frame, 10_000_000):
        lease = ledger.grant(offer(frame), "farm:linux/64bit")
        print_lease(lease)
        for event, claim in (
            (LeaseEvent.ORDER, {"node_id": "n1"}),
            (LeaseEvent.FAIL, {"attempt": 1, "reason": "renderer crashed"}),
            (LeaseEvent.ORDER, {"node_id": "n2"}),
            (LeaseEvent.START, {"attempt": 2}),
            (LeaseEvent.DELIVER, {"attempt": 2, "delivery": DELIVERY}),
            (LeaseEvent.ACCEPT, {"answer": 0}),
        ):
            print_lease(ledger.apply(lease.id, event, **claim))


if __name__ == "__main__":
    opened = Ledger(LedgerDatabase(sqlite_url(Path(sys.argv[1]))).open()).load()
    for thread in range(3):
        threading.Thread(target=write_leases, args=(opened, thread * 1_000_000), daemon=True).start()
    threading.Event().wait()
