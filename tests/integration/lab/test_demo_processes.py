"""The processes of a lab run: watched while they live, gone when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from lab.demo_run import processes as demo_processes
from lab.demo_run.processes import Processes
from lab.errors import RunFailed

SECRET = "a secret nobody may read"
SERVER = {
    "SHEEPFOLD_LOGIN": "lab",
    "SHEEPFOLD_PASSWORD": SECRET,
    "SHEEPFOLD_SERVER_PORT": "0",
    "SHEEPFOLD_SERVER_DIR": "server",
}


@pytest.fixture
def processes(tmp_path: Path):
    processes = Processes(tmp_path, (SECRET,))
    yield processes
    processes.stop()


def address_in(log: Path) -> str:
    return next((line.split(" is at ")[1] for line in log.read_text().splitlines() if " is at " in line), "")


def test_a_server_comes_up_answers_and_is_gone_after_the_stop(processes):
    started = processes.start("server", ["server"], SERVER)
    processes.wait_for("the server", lambda: bool(address_in(started.log)), limit_s=30)
    assert requests.get(f"{address_in(started.log)}/healthz", timeout=10).ok
    assert SECRET not in " ".join(psutil.Process(started.process.pid).cmdline())
    processes.stop()
    assert started.process.returncode == 0
    assert not psutil.pid_exists(started.process.pid)


def test_a_process_that_dies_is_told_with_the_end_of_its_log(processes):
    started = processes.start("server", ["server"], {**SERVER, "SHEEPFOLD_MAX_PERIOD_S": "never"})
    started.process.wait(30)
    with pytest.raises(RunFailed, match=r"server ended with exit code 2(.|\n)*SHEEPFOLD_MAX_PERIOD_S"):
        processes.check()


def test_secrets_in_a_log_are_not_shown(processes, monkeypatch):
    monkeypatch.setattr(demo_processes, "sheepfold_command", lambda: [sys.executable, "-c"])
    started = processes.start("worker", [f"print({SECRET!r}); raise SystemExit(4)"], {})
    started.process.wait(30)
    with pytest.raises(RunFailed, match="exit code 4") as failed:
        processes.check()
    assert "[secret]" in str(failed.value)
    assert SECRET not in str(failed.value)


def test_a_process_that_does_not_listen_is_killed_with_its_whole_group(processes, monkeypatch):
    monkeypatch.setattr(demo_processes, "sheepfold_command", lambda: [sys.executable, "-c"])
    monkeypatch.setattr(demo_processes, "STOP_WITHIN_S", 1.5)
    deaf = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(grandchild.pid, flush=True); time.sleep(600)"
    )
    started = processes.start("worker", [deaf], {})
    processes.wait_for("the grandchild", lambda: started.log.read_text().endswith("\n"), limit_s=30)
    grandchild = psutil.Process(int(started.log.read_text()))
    processes.stop()
    assert started.process.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs([grandchild], timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_processes_end_when_the_lab_itself_is_killed(tmp_path):
    starter = (
        "import sys, time; from pathlib import Path; from lab.demo_run import processes\n"
        "processes.sheepfold_command = lambda: [sys.executable, '-c']\n"
        "started = processes.Processes(Path(sys.argv[1]), ()).start('worker', ['import time; time.sleep(600)'], {})\n"
        "print(started.process.pid, flush=True); time.sleep(600)"
    )
    lab = subprocess.Popen([sys.executable, "-c", starter, str(tmp_path)], stdout=subprocess.PIPE)
    assert lab.stdout is not None
    child = psutil.Process(int(lab.stdout.readline()))
    os.kill(lab.pid, signal.SIGKILL)
    lab.wait()
    lab.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
