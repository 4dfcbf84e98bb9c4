"""Connections that send a byte now and then, as a slow or hostile client does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def dripping(clients: Sequence[socket.socket], every_s: float) -> Iterator[None]:
    """Inside the block each connection sends a byte every so many seconds; one that is cut off is passed over."""
    done = threading.Event()

    def drip() -> None:
        while not done.wait(every_s):
            for client in clients:
                with suppress(OSError):
                    client.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
