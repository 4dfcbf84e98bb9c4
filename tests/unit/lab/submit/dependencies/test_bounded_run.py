"""A program that nobody vouches for ends in time, holds no more than it may, and learns no secret."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lab.submit.dependencies.bounded_run import Ended, run_bounded

GIB = 1024**3


def run(folder: Path, code: str, *, limit_s: float = 20, reads: tuple[Path, ...] = ()) -> Ended:
    home = folder / "home"
    home.mkdir()
    return run_bounded(
        [sys.executable, "-c", code],
        home,
        reads=[Path(sys.prefix), Path(sys.base_prefix), *reads],
        limit_s=limit_s,
        memory_bytes=GIB,
    )


def test_it_answers_into_its_own_folder(tmp_path):
    assert run(tmp_path, "open('answer', 'w').write('x'); print('done')") == Ended(code=0, said="done")
    assert (tmp_path / "home" / "answer").read_text() == "x"


def test_its_time_is_up_for_its_children_too(tmp_path):
    mark = tmp_path / "home" / "late"
    late = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys; print('began', flush=True); subprocess.run([sys.executable, '-c', {late!r}])"
    assert run(tmp_path, code, limit_s=0.7) == Ended(code=None, said="began")
    time.sleep(2)
    assert not mark.exists()


def test_its_memory_is_bounded(tmp_path):
    ended = run(tmp_path, "bytearray(2 * 1024**3)")
    assert ended.code == 1
    assert ended.said.endswith("MemoryError")


def test_it_has_a_home_of_its_own_and_none_of_our_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("SHEEPFOLD_PASSWORD", "secret word")
    ended = run(tmp_path, "import os; print(os.path.expanduser('~')); print(dict(os.environ))")
    assert ended.said.splitlines()[0] == str(tmp_path / "home")
    assert "secret word" not in ended.said


@pytest.mark.usefixtures("bubblewrap")
def test_in_bubblewrap_it_sees_nothing_else_of_the_home_and_writes_nowhere_else(tmp_path, monkeypatch):
    (tmp_path / "private").write_text("x")
    (tmp_path / "scene").write_text("y")
    monkeypatch.setenv("HOME", str(tmp_path))
    code = f"import os; print(sorted(os.listdir({str(tmp_path)!r}))); open({str(tmp_path / 'scene')!r}, 'a')"
    ended = run(tmp_path, code, reads=(tmp_path / "scene",))
    assert "private" not in ended.said
    assert ended.said.splitlines()[0] == "['home', 'scene']"
    assert "Read-only file system" in ended.said
