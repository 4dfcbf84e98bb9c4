"""What a limited child does in tests: dies, hangs, swells, lies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from sheepfold.errors import LargeFile


def echo(what: object, *, is_large: bool) -> object:
    return what


def pid(*, is_large: bool) -> int:
    return os.getpid()


def environment(*, is_large: bool) -> dict[str, str]:
    return dict(os.environ)


def allocate(size: int, *, is_large: bool) -> int:
    return len(bytearray(size))


def die(number: int, *, is_large: bool) -> None:
    os.kill(os.getpid(), number)


def die_once(marker: str, *, is_large: bool) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def hang(*, is_large: bool) -> None:
    time.sleep(600)


def say_raw(hexadecimal: str, *, is_large: bool) -> None:
    """To every pipe that leads out of here, as code in a decoder could."""
    for number in range(2, 20):
        try:
            os.write(number, bytes.fromhex(hexadecimal))
        except OSError:
            continue
    os._exit(0)


def raise_undecodable(*, is_large: bool) -> None:
    b"\xe9".decode()


def large_until(gate: str, *, is_large: bool) -> str:
    if not is_large:
        raise LargeFile
    while not Path(gate).exists():
        time.sleep(0.01)
    return f"large at niceness {os.nice(0)}"


TASKS = {
    function.__name__: function
    for function in (echo, pid, environment, allocate, die, die_once, hang, say_raw, raise_undecodable, large_until)
}
