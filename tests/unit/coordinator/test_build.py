"""Building a coordinator does no I/O: an audit hook of a process of its own sees everything that is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: Redis and the ports are nobody's: whoever connects or binds is seen by the hook, not by an error.
BUILD = """
import json, sys, threading
from pathlib import Path
from coordinator.build import build_coordinator
from coordinator.settings import CoordinatorSettings

settings = CoordinatorSettings(
    server_url="http://127.0.0.1:9", login="a", password="b", state_dir=Path(sys.argv[1]), sessions=sys.argv[2]
)
seen = []
WATCHED = (
    "open", "os.mkdir", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.utime", "fcntl.flock", "fcntl.lockf",
    "sqlite3.connect", "subprocess.Popen",
)

def is_code(path):
    return str(path).startswith((CODE, sys.prefix, sys.base_prefix))

def watch(event, args):
    if building and (event in WATCHED or event.startswith("socket.")):
        # What Python imports late is read, and nothing of it is the coordinator's.
        if not (event in ("open", "os.listdir", "os.scandir") and is_code(args[0])):
            seen.append(f"{event} {args}"[:200])

CODE = str(Path(sys.modules["coordinator"].__file__).parents[1])
building = False
sys.addaudithook(watch)
threading.Thread.start = lambda thread: seen.append(f"thread {thread.name}")
building = True
app = build_coordinator(settings, "redis://127.0.0.1:9/0", "token", {})
building = False
print(json.dumps({"seen": seen, "app": type(app).__name__}))
"""


@pytest.mark.parametrize("sessions", ["farm", "machine"])
def test_building_touches_no_disk_no_network_and_no_thread(tmp_path: Path, sessions: str) -> None:
    folder = tmp_path / "state"
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder), sessions], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"seen": [], "app": "CoordinatorApp"}
    assert not folder.exists()
