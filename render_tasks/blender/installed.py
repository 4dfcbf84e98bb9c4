"""The Blender that is installed on this PC: which one a launcher archive would start, and whether it answers.

It is asked for its version when the worker begins, and again when the program was changed or did not answer, so that a
Blender that is installed, mended or removed is noticed without a restart.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sheepfold.blender import (
    ASK_WITHIN_S,
    SETTING,
    ask_version,
    find_blender,
    version_in,
    wanted_blender,
    why_not_found,
)

from .gpus import list_gpus
from .sandbox.levels import Level
from .sandbox.probe import run_in
from .sandbox.sandbox import Sandbox

log = logging.getLogger(__name__)

#: A program that gave no version may do so after a library was installed: it is asked again this often.
ASK_AGAIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class BlenderLook:
    """What was found: a version, or why there is none."""

    #: ``3.4.1``; empty: no usable Blender.
    version: str = ""
    #: What is wrong and what to do about it, for a person; empty where there is a version.
    why_not: str = ""


class LocalBlender:
    """Thread-safe as long as one thread looks; :attr:`found` may be read by any."""

    def __init__(
        self,
        *,
        ask: Callable[[Path], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._clock = ask or ask_version, clock
        self._seen: tuple[object, ...] | None = None
        self._asked_at = 0.0
        self.found = BlenderLook()

    def tell(self) -> None:
        """The log says what was found."""
        if self.found.why_not:
            log.warning("only jobs that bring their own renderer can come here: %s", self.found.why_not)
        else:
            log.info("Blender %s", self.found.version)

    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs it could render with; empty where it finds none or there is no Blender to ask."""
        path = find_blender()
        if path is None:
            log.warning("no Blender to ask for GPUs: %s", why_not_found())
            return ()
        return list_gpus(path)

    def look(self) -> BlenderLook:
        """The Blender as it is now; asks it only where that may give another answer than before."""
        path = find_blender()
        seen = (wanted_blender(), path, *_stamp(path))
        waited_s = self._clock() - self._asked_at
        if seen == self._seen and (self.found.version or path is None or waited_s < ASK_AGAIN_S):
            return self.found
        self._seen, self._asked_at = seen, self._clock()
        self.found = self._look_at(path)
        return self.found

    def _look_at(self, path: Path | None) -> BlenderLook:
        if path is None:
            return BlenderLook(why_not=why_not_found())
        version = self._ask(path)
        if version:
            return BlenderLook(version=version)
        return BlenderLook(why_not=f"{path} does not say that it is a Blender: let {SETTING} name one that starts")


def installed_blender() -> Path | None:
    """The program that the setting or PATH names, no link; ``None`` where it names none."""
    path = find_blender()
    return path.resolve() if path else None


def ask_version_in(sandbox: Sandbox, path: Path) -> str:
    """The same as :func:`~sheepfold.blender.ask_version`, asked where renderers run."""
    if sandbox.level is Level.NONE:
        return ask_version(path)
    blender = path.resolve()
    with tempfile.TemporaryDirectory(prefix="sheepfold-blender-") as home:
        inside = replace(sandbox, reads=(*sandbox.reads, blender.parent))
        said = run_in(inside, [str(blender), "--version"], Path(home), timeout_s=ASK_WITHIN_S)
    return version_in((said or "").encode())


def starts_in(sandbox: Sandbox) -> bool:
    """Whether this PC's Blender starts in a sandbox; true where there is none that could."""
    return find_blender() is None or answers_in(sandbox)


def answers_in(sandbox: Sandbox) -> bool:
    """Whether this PC has a Blender that says its version in a sandbox."""
    path = find_blender()
    return path is not None and bool(ask_version_in(sandbox, path))


def _stamp(path: Path | None) -> tuple[int, ...]:
    try:
        about = path.stat() if path else None
    except OSError:
        return ()
    return (about.st_ino, about.st_size, about.st_mtime_ns) if about else ()
