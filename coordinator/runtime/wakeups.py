"""Events that wake the coordinator's loops: one for each kind of work.

Whoever sets an event waits for nobody; the loop that does the work clears it.
"""

from __future__ import annotations

import threading


class Wakeups:
    """Three events, each of which ends the wait of the loop that does its work. Thread-safe."""

    def __init__(self) -> None:
        #: A granted lease, its archives or a node may be new: leases are placed.
        self.placing = threading.Event()
        #: A slot may be free: the server is asked for frames.
        self.asking = threading.Event()
        #: A picture or an error report waits for the server.
        self.uploading = threading.Event()

    def wake_all(self) -> None:
        """A lease left its node: a slot is free, and something waits for the server."""
        self.placing.set()
        self.asking.set()
        self.uploading.set()
