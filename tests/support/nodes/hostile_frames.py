"""A worker with a real Blender in a sandbox, and frames that attack it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sheepfold.contract.api_messages import FailureReport
from sheepfold.contract.orders import RenderOrder
from tests.support.nodes.null_renderer import packed
from tests.support.nodes.worker_harness import WorkerHarness, wait_for
from tests.support.pictures import write_picture

SCENES = Path(__file__).parents[1] / "scenes"
LAUNCHER = b'#!/bin/sh\nexec "${SHEEPFOLD_BLENDER:-blender}" "$@"\n'
#: Scripts of the scene run in the first, as a studio may allow, and not in the second.
WITH_SCRIPTS = ".e --factory-startup -y -b .c -o .o -f .f -x 1"
WITHOUT_SCRIPTS = ".e --factory-startup -Y -b .c -o .o -f .f -x 1"
SECRET = "what-only-the-owner-knows"
#: A render that is ended has a report within seconds; the machine may be busy.
ANSWER_WITHIN_S = 60


def _listening(name: str) -> socket.socket:
    """A program of the owner's that serves a local socket, as an SSH agent does."""
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(name)
    agent.listen()
    return agent


class HostileFrames:
    """One worker with two slots. Its owner's files lie in ``owner``."""

    def __init__(self, folder: Path, blender: str, sandbox: str) -> None:
        self.owner = folder / "owner"
        (self.owner / ".ssh").mkdir(parents=True)
        self.key = self.owner / ".ssh" / "id_ed25519"
        self.key.write_text(SECRET)
        self.picture = self.owner / "secret.png"
        write_picture(self.picture, ["R", "G", "B"], np.full((4, 4, 3), (1.0, 0.0, 0.0), np.float32))
        self.outside = self.owner / "outside"
        self._make_scenes(folder, blender)
        self.node = WorkerHarness(
            folder,
            SHEEPFOLD_SANDBOX=sandbox,
            SHEEPFOLD_BLENDER=blender,
            SHEEPFOLD_SLOTS="2",
            SHEEPFOLD_MEMORY_GB="1",
            SHEEPFOLD_SCRATCH_GB="0.25",
            HOME=str(self.owner),
            OWNERS_SECRET=SECRET,
        )
        files = {path.name: path.read_bytes() for path in (folder / "scenes").glob("*.blend")}
        self._scene, content = packed(files)
        self._renderer, launcher = packed({"rend.exe": LAUNCHER})
        self.node.coordinator.archives |= {self._scene.md5: content, self._renderer.md5: launcher}
        self.node.start().until_ready()
        self.other_slot = self.node.work_dir / "scratch" / "other" / "private"
        self.other_slot.parent.mkdir()
        self.other_slot.write_text(SECRET)
        #: An archive of another job, as it lies in the cache.
        self.other_archive = self.node.work_dir / "archives" / ("c" * 32) / "other.blend"
        self.other_archive.parent.mkdir()
        self.other_archive.write_text(SECRET)
        #: Local sockets of programs of the owner's: in a folder, and one without a file.
        self.sockets = [str(self.owner / "agent.sock"), f"\0agent of {os.getpid()} {sandbox}"]
        self._agents = [_listening(name) for name in self.sockets]

    @property
    def pid(self) -> int:
        """Of the worker."""
        assert self.node.process
        return self.node.process.pid

    @property
    def others(self) -> list[int]:
        """The worker's other processes, and those that it comes from."""
        worker = psutil.Process(self.pid)
        return [process.pid for process in (*worker.children(recursive=True), *worker.parents())]

    @property
    def archive(self) -> Path:
        """The scene as it lies in the cache."""
        return self.node.work_dir / "archives" / self._scene.md5 / "hostile.blend"

    def order(self, frame: str, *, scene: str = "hostile.blend", script: str = "", line: str = WITH_SCRIPTS) -> str:
        """Orders a frame; the lease."""
        order: RenderOrder = self.node.order(
            frame,
            scene_path=scene,
            command_line=line,
            script=f"{script}import bpy\n",
            scene_archives=(self._scene,),
            renderer_archive=self._renderer,
        )
        return order.lease_id

    def attack(self, name: str, **told: Any) -> str:
        """Orders a frame whose scene does this; the lease."""
        told = {"name": name, "secret": SECRET, "worker": self.pid, "others": self.others, **told}
        return self.order("1", script=f"# attack: {json.dumps(told)}\n")

    def aims(self) -> dict[str, Any]:
        """What an attack that looks around is told to look at."""
        work = self.node.work_dir
        return {
            "files": [
                "/etc/shadow",
                str(work / "node-id"),
                str(self.other_slot),
                str(self.other_archive),
                str(self.picture),
                str(self.key),
            ],
            "folders": [str(self.owner), str(work / "archives"), str(work / "scratch"), str(work / "outbox")],
            "writes": [str(self.owner / "written"), str(work / "written"), str(self.archive), "/usr/written"],
            "sockets": self.sockets,
            "ports": [self.node.redis.port, int(self.node.coordinator.url.rpartition(":")[2])],
        }

    def failed(self, lease: str) -> FailureReport:
        """The report of a frame that has no picture."""
        failures = self.node.coordinator.failures
        return wait_for(lambda: failures.get(lease), ANSWER_WITHIN_S, "a report")

    def found(self, lease: str) -> dict[str, Any]:
        """What an attack printed before its frame ended."""
        log = self.failed(lease).log
        return json.loads(log.partition("attack found: ")[2].partition("\n")[0])

    def rendered(self, lease: str) -> bytes:
        """The picture of a frame."""
        coordinator = self.node.coordinator

        def ended() -> bool:
            assert lease not in coordinator.failures, coordinator.failures[lease]
            return lease in coordinator.frames

        wait_for(ended, ANSWER_WITHIN_S, "a picture")
        return coordinator.frames[lease]

    def close(self) -> None:
        """Ends everything."""
        for agent in self._agents:
            agent.close()
        self.node.close()

    def _make_scenes(self, folder: Path, blender: str) -> None:
        (folder / "scenes").mkdir()
        script = SCENES / "hostile_scene.py"
        arguments = [str(folder / "scenes"), str(self.picture), str(self.outside)]
        subprocess.run(
            [blender, "-b", "--factory-startup", "-P", str(script), "--", *arguments],
            check=True, capture_output=True, timeout=120, env=os.environ | {"HOME": str(folder)},
        )  # fmt: skip
