"""The sandbox of this worker's renderers: which level it has, and how a program is started in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from render_tasks.blender.orphan_guard import MARK_VARIABLE

from .bubblewrap import bubblewrap
from .facts import HostFacts
from .landlock import instructions
from .levels import Level, RenderLimits
from .seccomp import packed, program, refusals
from .task_groups import joining, make_group, remove_group
from .view import View, view_of

_LAUNCHER = Path(__file__).with_name("launcher.py")
#: Lowest priority: whoever works at the PC goes first.
_NICENESS = "19"
#: Where memory runs out, the kernel ends a renderer before it ends anything else.
_FIRST_TO_GO = "1000"
#: What the programs before the renderer need; nothing of the renderer's, whose archive says where libraries are.
_FOR_OUR_TOOLS = ("PATH", "LANG")


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a program is started: a command line, its environment, and descriptors that it inherits."""

    argv: list[str]
    environment: dict[str, str]
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """One for all renderers of a worker; each gets a view of its own."""

    level: Level
    host: HostFacts
    limits: RenderLimits
    #: Folders that an operator adds to every view, and where the PC's own Blender is.
    reads: tuple[Path, ...] = ()
    #: Why the level is no better, and what to do about it; empty: there is none better.
    why_not_better: str = ""

    def view(self, home: Path, reads: Iterable[Path], *, gpu: bool) -> View:
        """What a renderer is given that has ``home`` for its folder and needs ``reads``."""
        return view_of(self.host, home=home, reads=(*self.reads, *reads), gpu=gpu)

    @contextlib.contextmanager
    def start(self, argv: Sequence[str], view: View, environment: Mapping[str, str]) -> Generator[Start]:
        """How ``argv`` is started with ``environment``; what is given is valid inside the block."""
        ours = {name: os.environ[name] for name in _FOR_OUR_TOOLS if name in os.environ}
        ours |= {MARK_VARIABLE: environment[MARK_VARIABLE]} if MARK_VARIABLE in environment else {}
        before = [*self._before(), *self._joining(environment.get(MARK_VARIABLE, ""))]
        if self.level is Level.BUBBLEWRAP:
            with _filter_file(self.host.machine) as descriptor:
                inside = bubblewrap(self.host, view, environment, self.limits, filter_descriptor=descriptor)
                yield Start(argv=[*before, *inside, *argv], environment=ours, descriptors=(descriptor,))
        elif self.level is Level.LANDLOCK:
            told = instructions(self.host, view, environment, self.limits, argv)
            # -I -S: nothing of the environment or the user changes what runs.
            launch = [sys.executable, "-I", "-S", str(_LAUNCHER), told]
            yield Start(argv=[*before, *launch], environment=ours)
        else:
            yield Start(argv=[*before, *argv], environment=dict(environment))

    def ended(self, mark: str) -> None:
        """Nothing of the renderer with this mark is left."""
        if self.host.task_groups:
            remove_group(self.host.task_groups, mark)

    def _joining(self, mark: str) -> list[str]:
        """The user's limit of processes does not bind root: its renderers are counted in a group."""
        if self.level is Level.NONE or not self.host.task_groups or not mark:
            return []
        return joining(make_group(self.host.task_groups, mark, self.limits.tasks))

    def _before(self) -> list[str]:
        words = [self.host.nice, "-n", _NICENESS] if self.host.nice else []
        if self.level is Level.BUBBLEWRAP and self.host.choom:
            words += [self.host.choom, "-n", _FIRST_TO_GO, "--"]
        return words


@contextlib.contextmanager
def _filter_file(machine: str) -> Generator[int]:
    descriptor = os.memfd_create("filter")
    try:
        os.write(descriptor, packed(program(refusals(None), machine)))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
