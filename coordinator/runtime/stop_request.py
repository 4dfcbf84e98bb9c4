"""That the coordinator is to end, and why: a signal, or an error that waiting cannot mend."""

from __future__ import annotations

import threading


class StopRequest:
    """Set from any thread or signal handler; the main thread waits for it."""

    def __init__(self) -> None:
        self._asked, self._ending = threading.Event(), threading.Event()
        #: The first error that ends the coordinator; ``None`` while there is none.
        self.error: Exception | None = None

    @property
    def was_asked(self) -> bool:
        """Whether a person wants the end, and so within ten seconds."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ends the coordinator on a person's request; safe inside a signal handler."""
        self._asked.set()
        self._ending.set()

    def fail(self, error: Exception) -> None:
        """A part cannot go on; later errors follow from the first, which is kept."""
        self.error = self.error or error
        self._ending.set()

    def wait(self) -> None:
        """Returns once somebody wants the end."""
        self._ending.wait()
