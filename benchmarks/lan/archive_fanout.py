"""Ten PCs want one archive: what the server sends, what the coordinator sends, and how long it takes.

    sudo .venv/bin/python -m benchmarks.lan.archive_fanout [--nodes 10] [--megabytes 200] [--mbit 100] [--limit-s 300]

A real lab server, a real coordinator and ten PCs with the worker's own archive code, each in a network namespace with a
cable of its own that is shaped in both directions (``network_namespaces.py``). First one more PC, which shares nothing,
fetches the archive alone: that is the time of one copy. Then all ten want it in the same moment. *Has it* means
downloaded, verified, unpacked and on disk. Work folders are in memory where there is enough: ten PCs have ten disks.
They have twenty cores, too; here they share this machine's, and unpack at the same time: on two cores that is four
seconds of what is measured, and more. So cables have 100 Mbit/s unless told otherwise.

Bytes are counted twice: by the coordinator's own figures, and by the kernel at each cable, TCP's headers included.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lan.network_namespaces import NoNamespaces, SimulatedLan
from tests.support.farm.scripted_renderer import SCENE, pack_renderer, scene_text

ROOT = Path(__file__).parents[2]

SHEEPFOLD = str(Path(sys.executable).with_name("sheepfold"))
SERVER_PORT, COORDINATOR_PORT = 8421, 8420
#: What must hold: copies the server and the coordinator send, and times of one copy until everybody has it.
SERVER_COPIES, COORDINATOR_COPIES, TIMES_OF_ALONE = 1.0, 4.0, 2.0
CANNOT_RUN = 2


class OutOfTime(Exception):
    """Something took too long, or a process ended."""


@dataclass(frozen=True, kw_only=True)
class FanoutFigures:
    """What was measured."""

    #: What its namespaces' names began with.
    run: str
    nodes: int
    #: Bytes of the archive.
    size: int
    #: Of each cable, in each direction.
    mbit: int
    #: Bytes of the archive that came from the server, as the coordinator counts.
    from_server: int
    #: Bytes that left the server by its cable, the renderer archive and everything else included.
    server_wire: int
    #: Bytes the coordinator handed to the ten, as it counts.
    to_lan: int
    #: Bytes that left the coordinator by its cable meanwhile.
    coordinator_wire: int
    #: Seconds of the one copy, and of each of the ten.
    alone_s: float
    each_s: tuple[float, ...]

    @property
    def all_s(self) -> float:
        """Seconds until the last of them has it."""
        return max(self.each_s)

    @property
    def line_s(self) -> float:
        """Seconds that a cable needs for the archive's bytes alone."""
        return self.size * 8 / (self.mbit * 1e6)

    def broken(self) -> list[str]:
        """What was promised and not kept."""
        checks = {
            "the server sends it once": self.from_server == SERVER_COPIES * self.size,
            "the coordinator sends less than 4 copies": self.coordinator_wire < COORDINATOR_COPIES * self.size,
            "all have it within 2 times of one copy": self.all_s <= TIMES_OF_ALONE * self.alone_s,
        }
        return [what for what, holds in checks.items() if not holds]

    def table(self) -> str:
        """For people."""
        size, line = self.size, self.line_s
        rows = [
            ("", "measured", "must be", "this machine's limit"),
            ("from the server / archive", f"{self.from_server / size:.3f}", "1", "1"),
            ("  as its cable counts", f"{self.server_wire / size:.3f}", "", ""),
            ("from the coordinator / archive", f"{self.to_lan / size:.2f}", "< 4", "1"),
            ("  as its cable counts", f"{self.coordinator_wire / size:.2f}", "", ""),
            ("one copy, s", f"{self.alone_s:.1f}", "", f"{line:.1f} (cable)"),
            (f"all {self.nodes}, s", f"{self.all_s:.1f}", "", f"{line:.1f} (cable)"),
            ("all / one copy", f"{self.all_s / self.alone_s:.2f}", "<= 2", f"{line / self.alone_s:.2f}"),
        ]
        head = f"{self.nodes} PCs, one archive of {size / 1e6:.0f} MB, cables of {self.mbit} Mbit/s"
        return "\n".join([head, *(f"{row[0]:<34}{row[1]:>9}{row[2]:>9}   {row[3]}".rstrip() for row in rows)])


class _Process:
    """A process on a host; it ends with the host."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path, deadline: float) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
        self._log, self._deadline = log, deadline
        self._popen = subprocess.Popen(
            command,
            # It works in a folder of its own and finds this package all the same.
            env=clean | {"PYTHONPATH": str(ROOT)} | dict(environment),
            cwd=log.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            start_new_session=True,
        )

    def tell(self, do: str, **command: Any) -> None:
        """Gives a command."""
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps({"do": do, **command}).encode() + b"\n")
        self._popen.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Waits for the answer. Raises OutOfTime."""
        assert self._popen.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, self._deadline - time.monotonic())):
                raise OutOfTime(f"{self._log.stem} did not answer in time; its log: {self._log}")
        line = self._popen.stdout.readline()
        if not line:
            raise OutOfTime(f"{self._log.stem} ended:\n{self._log.read_text()[-2000:]}")
        return json.loads(line)

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.tell(do, **command)
        return self.answer()


class _FanoutRun:
    """Server, coordinator and PCs of one run."""

    def __init__(self, lan: SimulatedLan, folder: Path, deadline: float) -> None:
        self._lan, self._folder, self._deadline = lan, folder, deadline
        self._token, self._viewer_password = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.password = secrets.token_urlsafe(12)
        self.server_url = f"http://{lan.plug_in('server')}:{SERVER_PORT}"
        self._coordinator = lan.plug_in("coordinator")
        self.pcs: list[_Process] = []

    def open(self, renderer: Path) -> None:
        """Server and coordinator; PCs ask until they answer."""
        host = self.server_url.removeprefix("http://").partition(":")[0]
        account = {"SHEEPFOLD_LOGIN": "lab", "SHEEPFOLD_PASSWORD": self.password}
        server = {
            "SHEEPFOLD_SERVER_HOST": host,
            "SHEEPFOLD_SERVER_PORT": str(SERVER_PORT),
            "SHEEPFOLD_SERVER_DIR": str(self._folder / "server"),
        }
        self._start("server", [SHEEPFOLD, "server", "--renderer", f"linux/64bit={renderer}"], account | server)
        coordinator = {
            "SHEEPFOLD_SERVER_URL": self.server_url,
            "SHEEPFOLD_FARM_TOKEN": self._token,
            "SHEEPFOLD_VIEWER_PASSWORD": self._viewer_password,
            "SHEEPFOLD_STATE_DIR": str(self._folder / "coordinator"),
            "SHEEPFOLD_HOST": self._coordinator,
            "SHEEPFOLD_ALLOW_PLAIN": "1",
            "SHEEPFOLD_PORT": str(COORDINATOR_PORT),
            "SHEEPFOLD_NO_JOB_WAIT_S": "0.5",
            "SHEEPFOLD_RETRY_WAIT_S": "0.5",
        }
        self._start("coordinator", [SHEEPFOLD, "coordinator"], account | coordinator)

    def pc(self, name: str, *, share: bool = True) -> _Process:
        """A PC that has joined."""
        self._lan.plug_in(name)
        environment = {
            "SHEEPFOLD_COORDINATOR_URL": f"http://{self._coordinator}:{COORDINATOR_PORT}",
            "SHEEPFOLD_FARM_TOKEN": self._token,
            "SHEEPFOLD_VIEWER_PASSWORD": self._viewer_password,
            "SHEEPFOLD_ALLOW_PLAIN": "1",
            "SHEEPFOLD_NODE_NAME": name,
            "SHEEPFOLD_WORK_DIR": str(self._folder / name),
            "SHEEPFOLD_SHARE": str(share),
        }
        pc = self._start(name, [sys.executable, "-m", "benchmarks.lan.lan_peer"], environment)
        pc.ask("join")
        return pc

    def _start(self, host: str, command: list[str], environment: Mapping[str, str]) -> _Process:
        command = self._lan.command_on(host, *command)
        return _Process(command, environment, self._folder / f"{host}.log", self._deadline)


def measure(
    *, nodes: int = 10, megabytes: int = 200, mbit: int = 100, limit_s: float = 300, folder: Path | None = None
) -> FanoutFigures:
    """One run; nothing of it is left. Raises NoNamespaces or OutOfTime."""
    with _work_folder(folder, (nodes + 3) * 2 * megabytes * 1_000_000) as work, SimulatedLan(mbit) as lan:
        run = _FanoutRun(lan, work, time.monotonic() + limit_s)
        run.open(pack_renderer(work / "renderer.zip"))
        archive = _archive(work / "project.zip", megabytes * 1_000_000)
        ref = {"md5": _md5(archive), "size": archive.stat().st_size}
        alone = run.pc("alone", share=False)
        login = {"server": run.server_url, "login": "lab", "password": run.password}
        alone.ask("submit", **login, zip=str(archive), scene=SCENE)
        alone.ask("wait", **ref)
        alone_s = alone.ask("fetch", **ref)["seconds"]
        pcs = [run.pc(f"pc-{number:02d}") for number in range(1, nodes + 1)]
        before, wire_before = alone.ask("figures"), lan.bytes_sent("coordinator")
        began = time.monotonic()
        for pc in pcs:
            pc.tell("fetch", **ref)
        each_s = tuple(pc.answer()["ended"] - began for pc in pcs)
        after, wire_after = alone.ask("figures"), lan.bytes_sent("coordinator")
        return FanoutFigures(
            run=lan.run,
            nodes=nodes,
            size=ref["size"],
            mbit=mbit,
            from_server=int(after["from_server"]) - (work / "renderer.zip").stat().st_size,
            server_wire=lan.bytes_sent("server"),
            to_lan=int(after["to_lan"] - before["to_lan"]),
            coordinator_wire=wire_after - wire_before,
            alone_s=alone_s,
            each_s=each_s,
        )


@contextlib.contextmanager
def _work_folder(folder: Path | None, wanted_bytes: int) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    memory = Path("/dev/shm")  # noqa: S108 (the temporary folder in it is ours alone)
    fits = memory.is_dir() and shutil.disk_usage(memory).free > wanted_bytes
    with tempfile.TemporaryDirectory(prefix="sheepfold-lan-", dir=memory if fits else None) as path:
        yield Path(path)


def _archive(path: Path, size: int) -> Path:
    """A project whose bytes are as good as random, as textures in a scene are."""
    scene_folder = path.with_name("scene")
    scene_folder.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(SCENE, scene_text(scene_folder, seconds=0, acts=None))
        with packed.open("textures.bin", "w") as payload:
            for _ in range(size // 1_000_000):
                payload.write(os.urandom(1_000_000))
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def main(argv: list[str]) -> int:
    """The command: 0 when every promise held, 1 when one did not, 2 when it cannot be measured here."""
    parser = argparse.ArgumentParser(
        description="Copies one archive to many PCs of a LAN and counts bytes and seconds."
    )
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--mbit", type=int, default=100, help="of each cable, in each direction")
    parser.add_argument("--limit-s", type=float, default=300, help="give up after so many seconds")
    parser.add_argument("--dir", type=Path, help="keep logs and archives here (must be empty)")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        found = measure(
            nodes=given.nodes, megabytes=given.megabytes, mbit=given.mbit, limit_s=given.limit_s, folder=given.dir
        )
    except NoNamespaces as reason:
        print(f"cannot be measured here: {reason}", file=sys.stderr)
        return CANNOT_RUN
    except OutOfTime as late:
        print(late, file=sys.stderr)
        return 1
    print(found.table())
    for promise in found.broken():
        print(f"BROKEN: {promise}")
    return 1 if found.broken() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
