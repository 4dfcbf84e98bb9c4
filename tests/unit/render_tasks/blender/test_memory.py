"""When a renderer holds more memory than it may."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from render_tasks.blender import memory
from render_tasks.blender.memory import TreeMemory, over_limit, take_peak, tree_of

LIMIT_KB = 1000
#: Of the counts that the system tells at once: shared pages are in it more than once.
TOO_MUCH = TreeMemory(now_kb=2 * LIMIT_KB)


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


def exact_counts(monkeypatch: pytest.MonkeyPatch, counts: Sequence[int | None]) -> list[int | None]:
    """What exact counts will find, one after the other; returns what is not counted yet."""
    left = list(counts)
    monkeypatch.setattr(memory, "_exact_kb", lambda _pid: left.pop(0))
    return left


def test_what_is_below_the_limit_is_not_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    left = exact_counts(monkeypatch, [5000])
    assert over_limit(1, TreeMemory(now_kb=LIMIT_KB), LIMIT_KB) == ""
    assert over_limit(1, TOO_MUCH, None) == ""
    assert left == [5000]


def test_a_fork_amid_an_exact_count_ends_no_render(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact_counts(monkeypatch, [LIMIT_KB + 500, LIMIT_KB - 1])
    assert over_limit(1, TOO_MUCH, LIMIT_KB) == ""


@pytest.mark.parametrize(
    ("counts", "told_gb"), [([1200, 1300], "0.00124"), ([1200, None], "0.00191"), ([None, None], "0.00191")]
)
def test_too_much_twice_ends_it(monkeypatch: pytest.MonkeyPatch, counts: list[int | None], told_gb: str) -> None:
    left = exact_counts(monkeypatch, counts)
    assert f"it held {told_gb} GB" in over_limit(1, TOO_MUCH, LIMIT_KB)
    assert not left


#: A process with a child that a thread of it started, and a grandchild; each holds 20 MB for a moment and keeps little.
_FAMILY = """
import subprocess, sys, threading
held = bytearray(b"x") * 20_000_000
del held
if int(sys.argv[1]):
    def start():
        child = subprocess.Popen([sys.executable, "-c", sys.argv[2], str(int(sys.argv[1]) - 1), sys.argv[2]],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        print(flush=True)
        sys.stdin.read()
        child.communicate()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def family() -> Iterator[int]:
    """Three generations; the first one's pid."""
    argv = [sys.executable, "-c", _FAMILY, "2", _FAMILY]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


@pytest.mark.parametrize("lists_children", [True, False])
def test_a_tree_is_all_generations_whichever_thread_started_them(
    monkeypatch: pytest.MonkeyPatch, lists_children: bool
) -> None:
    monkeypatch.setattr(memory, "_LISTS_CHILDREN", lists_children and memory._LISTS_CHILDREN)
    with family() as pid:
        assert tree_of(pid)[0] == pid
        assert len(tree_of(pid)) == 3
    assert tree_of(pid) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak is that of the process's whole life")
def test_a_peak_is_taken_once_and_what_is_held_now_comes_with_it() -> None:
    with family() as pid:
        first, second = take_peak(pid), take_peak(pid)
    assert first.processes == second.processes == 3
    assert first.peak_kb > first.now_kb + 3 * 15_000
    assert second.peak_kb < first.peak_kb - 3 * 15_000
