"""Pictures of strangers are decoded here: in a limited child, never in the process that asks."""

from __future__ import annotations

import os
from pathlib import Path

from sheepfold.errors import NotAPicture
from sheepfold.pictures import Picture

from .errors import TaskRefused
from .pool import LimitedProcesses

#: More would only share the same cores.
MOST_CHILDREN = 4
#: A small picture decodes to 256 MB at most; a large one to gigabytes, with the lowest priority (seconds).
DEADLINE_S, LARGE_DEADLINE_S = 30.0, 300.0


def limited_processes(module: str) -> LimitedProcesses:
    """As many children as there are cores, within reason."""
    count = min(MOST_CHILDREN, os.cpu_count() or 1)
    return LimitedProcesses(module, count=count, deadline_s=DEADLINE_S, large_deadline_s=LARGE_DEADLINE_S)


class PictureInspector:
    """Looks at pictures in children of its own, which start with the first picture. Thread-safe."""

    def __init__(self, processes: LimitedProcesses | None = None) -> None:
        self._processes = processes or limited_processes("sheepfold.pictures")

    def inspect(self, path: Path) -> Picture:
        """What is on the picture; raises :class:`~sheepfold.errors.NotAPicture` or ``ChildUnavailable``."""
        try:
            return Picture(**self._processes.call("inspect", str(path.resolve())))
        except TaskRefused as error:
            raise NotAPicture(error.reason) from None
        except TypeError:
            raise NotAPicture("its decoder gives nonsense") from None

    def close(self) -> None:
        """Ends the children that are idle; one at work ends with this process."""
        self._processes.close()
