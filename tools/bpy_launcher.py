"""A Blender executable made of the ``bpy`` wheel: takes Blender's arguments, in Blender's order.

Where no Blender can be installed, ``tools/find_blender.py`` puts the wheel into ``.blender/`` and a launcher beside it
that runs this file with the wheel's own Python. It is a program of its own and imports nothing of ours.

Arguments act one after the other, as Blender's manual says (*Command Line Arguments*): ``-o`` after ``-f`` comes too
late. Threads, autoexec and the exit code for scripts hold for the whole run, wherever they stand. Rendering goes
through Blender's own animation render, so that file names, padding, extensions and the ``Saved:`` lines are its own.

Unlike Blender, an argument that is unknown or incomplete ends the run with exit code 1.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

#: Arguments that act in order, with how many values follow.
ACTIONS = {
    "-o": 1, "-f": 1, "-s": 1, "-e": 1, "-j": 1, "-a": 0, "-x": 1, "-F": 1, "-E": 1, "-S": 1, "-P": 1,
    "--python-expr": 1,
}  # fmt: skip
LONG_NAMES = {
    "--background": "-b", "--render-output": "-o", "--render-frame": "-f", "--frame-start": "-s", "--frame-end": "-e",
    "--frame-jump": "-j", "--render-anim": "-a", "--use-extension": "-x", "--render-format": "-F", "--engine": "-E",
    "--scene": "-S", "--python": "-P", "--threads": "-t", "--enable-autoexec": "-y", "--disable-autoexec": "-Y",
    "--version": "-v", "--factory-startup": "-b",
}  # fmt: skip
#: Understood and without effect here, with how many values follow.
IGNORED = {"-b": 0, "-noaudio": 0, "--verbose": 1, "--log": 1, "--log-level": 1, "--log-file": 1, "--debug": 0, "-d": 0}
#: Options without a value → the field of :class:`Run` that they set.
SWITCHES = {"-v": "version_only", "--python-use-system-env": "system_env"}
#: Blender's command line has its own names for some file formats.
FORMATS = {"TGA": "TARGA", "RAWTGA": "TARGA_RAW", "JP2": "JPEG2000", "MULTILAYER": "OPEN_EXR_MULTILAYER"}


class BadArguments(Exception):
    """The command line cannot be carried out."""


class ScriptFailed(Exception):
    """A script raised, and ``--python-exit-code`` wants the run to end."""


@dataclass
class Run:
    """What a command line of Blender asks for."""

    #: 0: as many as there are.
    threads: int = 0
    autoexec: bool = False
    #: Exit code when a script raises; 0: go on.
    script_failure: int = 0
    version_only: bool = False
    #: Scripts find modules in the folders of ``PYTHONPATH``, too.
    system_env: bool = False
    #: What to do, in order: an argument's short name (``load`` for a file) and its value.
    actions: list[tuple[str, str]] = field(default_factory=list)


def read(arguments: Sequence[str]) -> Run:
    """A command line's meaning; raises :class:`BadArguments`."""
    run = Run()
    rest = list(arguments)
    while rest:
        given = rest.pop(0)
        name = LONG_NAMES.get(given, given)
        if name == "--":
            break
        if name in ACTIONS:
            run.actions.append((name, _value(given, rest) if ACTIONS[name] else ""))
        elif name in IGNORED:
            del rest[: IGNORED[name]]
        elif name == "-t":
            run.threads = _number(given, _value(given, rest))
        elif name == "--python-exit-code":
            run.script_failure = _number(given, _value(given, rest))
        elif name in ("-y", "-Y"):
            run.autoexec = name == "-y"
        elif name in SWITCHES:
            setattr(run, SWITCHES[name], True)
        elif name.startswith("-"):
            raise BadArguments(f"unknown argument {given}")
        else:
            run.actions.append(("load", given))
    return run


def _value(name: str, rest: list[str]) -> str:
    if not rest:
        raise BadArguments(f"a value must follow {name}")
    return rest.pop(0)


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise BadArguments(f"not a number: {name} {text}")
    return int(text)


def frames_of(text: str, start: int, end: int) -> list[int]:
    """The frames of ``-f``: ``7``, ``0340``, ``1,3..5``, ``+1`` (from the scene's start), ``-1`` (from its end)."""
    frames: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        low = _relative(first, start, end)
        frames.extend(range(low, _relative(last, start, end) + 1) if dots else [low])
    return frames


def _relative(text: str, start: int, end: int) -> int:
    number = _number("-f", text.removeprefix("+"))
    if text.startswith("+"):
        return start + number
    return end + number + 1 if text.startswith("-") else number


class Blender:
    """The bpy module, driven like the executable."""

    def __init__(self, bpy: Any, run: Run) -> None:
        self._bpy, self._run = bpy, run
        bpy.context.preferences.filepaths.use_scripts_auto_execute = run.autoexec
        # Blender's -t overrides every scene it opens, those that a script opens included.
        bpy.app.handlers.load_post.append(bpy.app.handlers.persistent(lambda *_: self._limit_threads()))
        self._limit_threads()
        self._does: dict[str, Callable[[str], None]] = {
            "load": self._load,
            "-P": self._script_file,
            "--python-expr": lambda text: self._script(text, "<expr>"),
            "-f": self._frames,
            "-a": lambda _: self._render(self._scene.frame_start, self._scene.frame_end),
            "-o": lambda text: setattr(self._scene.render, "filepath", text),
            "-x": lambda text: setattr(self._scene.render, "use_file_extension", bool(_number("-x", text))),
            "-F": lambda text: setattr(self._scene.render.image_settings, "file_format", FORMATS.get(text, text)),
            "-E": lambda text: setattr(self._scene.render, "engine", text),
            "-S": lambda text: setattr(bpy.context.window, "scene", bpy.data.scenes[text]),
            "-s": lambda text: setattr(self._scene, "frame_start", _number("-s", text)),
            "-e": lambda text: setattr(self._scene, "frame_end", _number("-e", text)),
            "-j": lambda text: setattr(self._scene, "frame_step", _number("-j", text)),
        }

    @property
    def _scene(self) -> Any:
        return self._bpy.context.scene

    def carry_out(self) -> None:
        """Does every action in the order of the command line; raises :class:`BadArguments`, :class:`ScriptFailed`."""
        for name, value in self._run.actions:
            try:
                self._does[name](value)
            except (TypeError, KeyError, RuntimeError) as error:
                raise BadArguments(f"{name} {value}: {error}") from error

    def _load(self, path: str) -> None:
        self._bpy.ops.wm.open_mainfile(filepath=str(Path(path).absolute()), use_scripts=self._run.autoexec)

    def _limit_threads(self) -> None:
        if self._run.threads > 0:
            self._scene.render.threads_mode = "FIXED"
            self._scene.render.threads = self._run.threads

    def _script_file(self, path: str) -> None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            self._script_raised(f'Python file "{path}" could not be opened: {error.strerror}\n', path)
        else:
            self._script(text, path)

    def _script(self, text: str, name: str) -> None:
        # A fresh __main__ for each script, as in Blender; sys.exit() inside one ends the run with its code.
        try:
            exec(compile(text, name, "exec"), {"__name__": "__main__", "__file__": name})  # noqa: S102 that is -P
        except Exception:
            self._script_raised(traceback.format_exc(), name)

    def _script_raised(self, what: str, name: str) -> None:
        print(f"Error: Python: {what}", end="", file=sys.stderr)
        if self._run.script_failure:
            raise ScriptFailed(f"script failed, file: '{name}', exiting.")

    def _frames(self, text: str) -> None:
        for frame in frames_of(text, self._scene.frame_start, self._scene.frame_end):
            self._render(frame, frame)

    def _render(self, first: int, last: int) -> None:
        self._limit_threads()
        scene = self._scene
        own = scene.frame_start, scene.frame_end
        handlers = self._bpy.app.handlers.render_init

        def restore(*_: object) -> None:
            scene.frame_start, scene.frame_end = own

        # In this order: a start behind the end takes the end along.
        scene.frame_start = first
        scene.frame_end = last
        # -f leaves the range alone, and drivers may read it: it is restored once Blender has taken note of ours.
        handlers.insert(0, restore)
        try:
            if (scene.frame_start, scene.frame_end) != (first, last):
                raise BadArguments(f"frames {first} to {last} are outside of what this Blender renders")
            self._bpy.ops.render.render(animation=True)
        finally:
            handlers.remove(restore)
            restore()


def main(arguments: Sequence[str]) -> int:
    """The run's exit code: 0, 1 for what cannot be carried out, or what ``--python-exit-code`` said."""
    try:
        run = read(arguments)
    except BadArguments as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if run.system_env:  # this Python runs isolated and took no notice of it
        sys.path += [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    bpy: Any = importlib.import_module("bpy")
    print(f"Blender {bpy.app.version_string}")
    if run.version_only:
        return 0
    try:
        Blender(bpy, run).carry_out()
    except BadArguments as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except ScriptFailed as error:
        print(f"Error: {error}", file=sys.stderr)
        return run.script_failure
    print("\nBlender quit")
    return 0


def run_to_the_end(arguments: Sequence[str]) -> NoReturn:
    """:func:`main`, then the end of the process without taking bpy apart.

    At an ordinary exit bpy 4.5 now and then waits for ever for a thread of its own, with the pictures long written.
    """
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    if "bpy" in sys.modules:
        shutil.rmtree(sys.modules["bpy"].app.tempdir, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # what Blender itself printed
    os._exit(code)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text stream here
    sys.argv[0] = "blender"
    run_to_the_end(sys.argv[1:])
