"""One PC of the LAN benchmark: the worker's own archive cache, swarm, archive server and presence record; no Blender.

It reads one JSON command a line and answers each with one JSON line. Settings are the worker's, from the environment.

    {"do": "join"}                                   joins the farm; {"name": ...}
    {"do": "submit", "server": url, "login": .., "password": .., "zip": path, "scene": ..}   a project of one frame
    {"do": "wait", "md5": .., "size": ..}            until the coordinator has the archive
    {"do": "fetch", "md5": .., "size": ..}           {"seconds": .., "began": .., "ended": ..} (monotonic clock)
    {"do": "figures"}                                what the coordinator counted: {"from_server": .., "to_lan": ..}
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import requests

from lab.submit.client import LabClient
from render_tasks.archives.sharing import ArchiveSharing
from render_tasks.cancellation import CancelToken
from render_tasks.coordinator_client import CoordinatorClient
from render_tasks.errors import ArchiveMissing, CoordinatorUnreachable
from render_tasks.presence import PresenceWriter
from render_tasks.retry import retry_while_unreachable
from render_tasks.settings import WorkerSettings
from sheepfold import __version__
from sheepfold.contract.api_messages import CONTRACT_VERSION, JoinRequest, archive_key
from sheepfold.contract.orders import ArchiveRef
from sheepfold.contract.presence import Presence
from sheepfold.hardware import detect


class LanPeer:
    """A worker as far as archives go."""

    def __init__(self) -> None:
        self._settings = WorkerSettings()  # type: ignore[call-arg]
        self._node_id = self._settings.node_name
        token = self._settings.token
        self._secret = secrets.token_hex(32)
        self._coordinator = CoordinatorClient(self._settings.coordinator_url, token, self._secret)
        self._sharing = ArchiveSharing(self._coordinator, self._node_id, archive_key(token), self._settings)
        self._cache = self._sharing.open(self._settings.work_dir / "archives", on_evict=lambda _: None)
        self._hardware = detect(())

    def join(self) -> dict[str, Any]:
        """Is a node from now on; nobody reads the orders in its queue."""
        wish = JoinRequest(
            contract_version=CONTRACT_VERSION,
            node_id=self._node_id,
            secret=self._secret,
            wanted_name=self._settings.node_name,
            hardware=self._hardware,
            slots=1,
            compute=self._settings.compute,
            version=__version__,
            fresh=True,
        )
        joined = retry_while_unreachable(lambda: self._coordinator.join(wish), CancelToken())
        self._name = joined.name
        self._presence = PresenceWriter(joined.redis_url, self._node_id, self._record, lambda: None)
        self._presence.start()
        return {"name": joined.name}

    def submit(self, server: str, login: str, password: str, zip: str, scene: str) -> dict[str, Any]:  # noqa: A002
        """A project of one frame at the lab server."""
        fields = {"name": "copies", "frames": "1", "scene": scene}
        return {"id": LabClient(server, login, password).submit(Path(zip), fields).id}

    def wait(self, md5: str, size: int) -> dict[str, Any]:
        """Until the coordinator has the archive."""
        while True:
            try:
                return {"pieces": len(self._coordinator.plan(ArchiveRef(md5=md5, size=size), self._node_id, "").sums)}
            except (ArchiveMissing, CoordinatorUnreachable):
                time.sleep(0.1)

    def fetch(self, md5: str, size: int) -> dict[str, Any]:
        """Downloaded, verified and unpacked."""
        began = time.monotonic()
        self._cache.ensure((ArchiveRef(md5=md5, size=size),))
        ended = time.monotonic()
        return {"seconds": ended - began, "began": began, "ended": ended}

    def figures(self) -> dict[str, Any]:
        """What the coordinator counted."""
        password = os.environ["SHEEPFOLD_VIEWER_PASSWORD"]
        url, shown = f"{self._settings.coordinator_url}/metrics", {"Authorization": f"Bearer {password}"}
        text = requests.get(url, headers=shown, timeout=10).text
        return {way: float(count) for way, count in re.findall(r'archive_bytes_total\{way="(\w+)"\} (\S+)', text)}

    def _record(self) -> Presence:
        return Presence(
            node_id=self._node_id,
            name=self._name,
            hardware=self._hardware,
            slots=1,
            compute=self._settings.compute,
            archives=self._cache.held(),
            archive_url=self._sharing.url(),
            shared=self._cache.shares(),
            version=__version__,
        )


def main() -> int:
    """Until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    pc = LanPeer()
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(pc, command.pop("do"))(**command)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
