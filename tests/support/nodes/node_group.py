"""A coordinator with its archive server, and nodes with caches of their own; all of it real HTTP over loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from coordinator.api.app import ApiServices, create_api
from coordinator.archives.manifests import ManifestCache
from coordinator.archives.peers import PeerTable
from coordinator.archives.store import ArchiveStore
from coordinator.archives.tracker import ArchiveTracker
from coordinator.runtime.http_server import UvicornThread
from render_tasks.archives.cache import ArchiveCache
from render_tasks.archives.swarm import Swarm
from render_tasks.coordinator_client import CoordinatorClient
from sheepfold.contract.orders import ArchiveRef
from sheepfold.contract.presence import Compute, NodeHardware, Presence
from sheepfold.sharing.archive_server import ArchiveServer
from sheepfold.sharing.shared_archive import SharedArchive
from tests.support.coordinator.fakes import NODE_SECRET, OpenAdmission

TOKEN = "a-token-of-this-lan"
_HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="85", cpu_model_name="Xeon", cpu_cores=8, ram=16 * 1024**3
)


@dataclass
class CachingNode:
    """One node: what it has, and where it serves it."""

    cache: ArchiveCache
    server: ArchiveServer | None
    url: str = ""


@dataclass
class CountedArchives:
    """What an archive server hands out, counted; ``change`` may put something else in its place."""

    found: Callable[[str], SharedArchive | None]
    asked: list[str] = field(default_factory=list)

    def __call__(self, md5: str) -> SharedArchive | None:
        self.asked.append(md5)
        return self.found(md5)


class NodeGroup:
    """The coordinator's side, and nodes as they are added. Everything ends with :meth:`close`."""

    def __init__(self, folder: Path, *, coordinator_at_once: int = 32) -> None:
        self._folder = folder
        self.store = ArchiveStore(folder / "coordinator", quota_bytes=10**10, reserve_bytes=0).open()
        self.present: dict[str, Presence] = {}
        tracker = ArchiveTracker(
            self.store.path_of,
            ManifestCache(self.store),
            PeerTable(lambda: self.present),
            lambda host: f"http://{host}:{self.coordinator.port}",
        )
        self.archives = CountedArchives(self.store.shared)
        self.coordinator = ArchiveServer(self.archives, TOKEN, at_once=coordinator_at_once).bind("127.0.0.1", 0)
        self.coordinator.start()
        port = _free_port()
        self._web = UvicornThread(create_api(_parts(tracker)), "127.0.0.1", port).bind()
        self._web.start()
        _wait_until_it_listens(port)
        self.url = f"http://127.0.0.1:{port}"
        self.nodes: list[CachingNode] = []

    def archive(self, size: int) -> ArchiveRef:
        """A zip of about this size, which the coordinator has."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("scene.blend", os.urandom(size))
        return self.has(packed.getvalue())

    def has(self, content: bytes) -> ArchiveRef:
        """Something the coordinator has."""
        return self.store.ensure(hashlib.md5(content).hexdigest(), lambda target: target.write(content))  # type: ignore[arg-type, return-value]

    def node(self, *, share: bool = True, stalled_after_s: float = 10) -> CachingNode:
        """One more node."""
        name = f"n{len(self.nodes) + 1}"
        coordinator = CoordinatorClient(self.url, TOKEN, NODE_SECRET)
        swarm = Swarm(coordinator, TOKEN, name, lambda: node.url, stalled_after_s=stalled_after_s)
        cache = ArchiveCache(self._folder / name, swarm, quota_bytes=10**10, share=share)
        node = CachingNode(cache, None)
        if share:
            node.server = ArchiveServer(cache.shared, TOKEN, at_once=8).bind("", 0)
            node.server.start()
            node.url = f"http://{coordinator.own_address()}:{node.server.port}"
        self.nodes.append(node)
        self.record(name, node.url)
        return node

    def record(self, name: str, url: str, *shared: str) -> None:
        """A node's presence record, as the coordinator has it."""
        self.present[name] = Presence(
            node_id=name,
            name=name,
            hardware=_HARDWARE,
            slots=1,
            compute=Compute.CPU,
            archive_url=url,
            shared=shared,
        )

    def close(self) -> None:
        """Ends all servers."""
        for node in self.nodes:
            if node.server:
                node.server.stop()
        self._web.stop()
        self.coordinator.stop()


class SilentPeer:
    """Takes calls and never answers; an address that swallows everything looks the same."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.called = threading.Event()
        self._held: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self._held.append(self._socket.accept()[0])
            except OSError:
                return
            self.called.set()

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()
        for held in self._held:
            held.close()


def _parts(tracker: ArchiveTracker) -> ApiServices:
    # Nodes of this group ask for archives alone.
    return ApiServices(
        farm_token=TOKEN,
        claims=None,  # type: ignore[arg-type]
        certificates=None,  # type: ignore[arg-type]
        nodes=OpenAdmission(),  # type: ignore[arg-type]
        archives=tracker,
        operator=None,  # type: ignore[arg-type]
        flower=None,  # type: ignore[arg-type]
        revocation=None,  # type: ignore[arg-type]
        jobs=None,  # type: ignore[arg-type]
        metrics=CollectorRegistry(),
    )


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.01)
    raise AssertionError("the coordinator does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
