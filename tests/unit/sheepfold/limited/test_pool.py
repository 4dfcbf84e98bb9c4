"""Children that are limited, die, hang and are started again; with tasks of this file's own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepfold.limited.child import MEMORY_BYTES
from sheepfold.limited.errors import ChildUnavailable, TaskRefused
from sheepfold.limited.pool import LARGE_WAITING, LimitedProcesses

TASKS_MODULE = "tests.support.limited_tasks"


@pytest.fixture
def processes() -> Iterator[LimitedProcesses]:
    processes = LimitedProcesses(TASKS_MODULE, count=1, deadline_s=3, large_deadline_s=20)
    yield processes
    processes.close()


def test_one_child_does_task_after_task(processes: LimitedProcesses) -> None:
    first = processes.call("pid")
    assert first != os.getpid()
    assert processes.call("pid") == first
    assert processes.call("echo", "päth/\udce9") == "päth/\udce9"


def test_a_child_knows_no_secret_of_its_parent(processes: LimitedProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_PASSWORD", "secret")
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN", "secret")
    environment: dict[str, str] = processes.call("environment")
    assert "secret" not in environment.values()
    assert not [name for name in environment if name.startswith("SHEEPFOLD_")]


def test_more_memory_than_a_child_may_have_is_a_refusal_and_the_next_task_is_done(processes: LimitedProcesses) -> None:
    with pytest.raises(TaskRefused) as refused:
        processes.call("allocate", MEMORY_BYTES)
    assert refused.value.kind == "MemoryError"
    assert processes.call("allocate", MEMORY_BYTES // 4) == MEMORY_BYTES // 4


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_task_that_kills_its_child_is_refused_and_another_child_is_started(
    processes: LimitedProcesses, how: signal.Signals
) -> None:
    before = processes.call("pid")
    with pytest.raises(TaskRefused) as refused:
        processes.call("die", int(how))
    assert refused.value.kind == "Died"
    assert processes.call("pid") != before


def test_a_child_that_was_killed_from_outside_costs_no_task(processes: LimitedProcesses, tmp_path: Path) -> None:
    assert processes.call("die_once", str(tmp_path / "died")) == "done"


def test_a_task_that_hangs_is_ended_at_its_deadline(processes: LimitedProcesses) -> None:
    began = time.monotonic()
    with pytest.raises(TaskRefused) as refused:
        processes.call("hang")
    assert refused.value.kind == "TooSlow"
    assert 3 <= time.monotonic() - began < 10
    assert processes.call("echo", 1) == 1


@pytest.mark.parametrize("raw", [b"", b"no", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1x"])
def test_a_child_that_was_taken_over_gets_nothing_into_its_parent(processes: LimitedProcesses, raw: bytes) -> None:
    with pytest.raises(TaskRefused):
        processes.call("say_raw", raw.hex())
    assert processes.call("echo", 1) == 1


def test_an_error_that_is_no_text_is_a_refusal(processes: LimitedProcesses) -> None:
    with pytest.raises(TaskRefused) as refused:
        processes.call("raise_undecodable")
    assert refused.value.kind == "UnicodeDecodeError"


def test_a_module_that_cannot_be_imported_is_nobodys_picture() -> None:
    with pytest.raises(ChildUnavailable):
        LimitedProcesses("tests.support.no_such_module", count=1, deadline_s=3, large_deadline_s=3).call("echo", 1)


def test_large_tasks_wait_for_each_other_and_small_ones_do_not(processes: LimitedProcesses, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    outcomes: list[Any] = []

    def large() -> None:
        try:
            outcomes.append(processes.call("large_until", str(gate)))
        except ChildUnavailable as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=large) for _ in range(LARGE_WAITING + 2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while outcomes != [ChildUnavailable] and time.monotonic() < until:
        assert processes.call("echo", "small") == "small"
    assert outcomes == [ChildUnavailable], "one more than may wait"
    gate.touch()
    for thread in threads:
        thread.join(20)
    assert outcomes[1:] == ["large at niceness 10"] * (LARGE_WAITING + 1)


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import os, sys; from sheepfold.limited.pool import LimitedProcesses\n"
        f"pool = LimitedProcesses('{TASKS_MODULE}', count=1, deadline_s=9, large_deadline_s=9)\n"
        "print(pool.call('pid'), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child, until = int(done.stdout), time.monotonic() + 10
    while time.monotonic() < until and Path(f"/proc/{child}").exists() and "Z" not in _state(child):
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists() or "Z" in _state(child)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return "Z"
