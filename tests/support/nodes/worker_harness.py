"""One real worker process, one real Redis, and a small real coordinator that a test can look into and switch off."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.broker.redis_discovery import find_redis
from render_tasks.untrusted.removal import remove
from sheepfold.contract.api_messages import (
    ArchiveManifest,
    ArchiveSources,
    FailureReport,
    JoinAnswer,
    JoinRequest,
    StartAnswer,
)
from sheepfold.contract.celery_app import cancel_order, make_app, send_order
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import RenderOrder, queue_of
from sheepfold.contract.presence import Presence, presence_key
from sheepfold.contract.signing import Cancel, SignedMessage, Stamp, public_key_text, sign_cancel, sign_order
from sheepfold.sharing.archive_server import ArchiveServer
from sheepfold.sharing.pieces import BLOCK_BYTES, all_of, pieces_in, sum_of
from sheepfold.sharing.shared_archive import SharedArchive
from tests.support.nodes.null_renderer import COMMAND_LINE, renderer_archive, scene_archive

TOKEN = "a-token-nobody-may-see"
#: CPU seconds of a worker's start. It takes one; how long that is depends on who else computes on this machine ...
START_CPU_S = 15
#: ... and a worker that waits for something that never comes uses none.
START_WALL_S = 120


def wait_for(condition: Callable[[], Any], seconds: float = 20, what: str = "") -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)
    return value


class RedisServer:
    """A real Redis with a password, on a port of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.password = secrets.token_hex(16)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        config = self._folder / f"redis-{self.port}.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nrequirepass {self.password}\nappendonly yes\ndir {self._folder}\n"
            f"appendfilename a{self.port}.aof\nappenddirname aof{self.port}\n"
        )
        self._process = subprocess.Popen([str(find_redis()), str(config)], stdout=subprocess.DEVNULL)
        self.client = redis.Redis.from_url(self.url)
        wait_for(self._answers, 10, "redis")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeCoordinator:
    """Answers as the coordinator does; remembers everything."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.farm_id = "farm-1"
        self.redis_url = ""
        #: Where a node that joins is told that Redis is.
        self.login_of: Callable[[JoinRequest], str] = lambda _: self.redis_url
        self.joins: list[JoinRequest] = []
        self.starts: list[tuple[str, int]] = []
        self.frames: dict[str, bytes] = {}
        self.reports: dict[str, dict[str, str]] = {}
        self.failures: dict[str, FailureReport] = {}
        self.fetched: list[str] = []
        self.stale: set[str] = set()
        #: Lease → what opens its scene.
        self.passwords: dict[str, str] = {}
        self.silent = False
        #: Deliveries are answered while this is set.
        self.takes_frames = threading.Event()
        self.takes_frames.set()
        self._folder = tempfile.TemporaryDirectory(prefix="sheepfold-coordinator-")
        self.archives = {ref.md5: content for ref, content in (renderer_archive(), scene_archive())}
        self._archive_server = ArchiveServer(self._shared, TOKEN, at_once=8).bind("127.0.0.1", 0)
        self._archive_server.start()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._archive_server.stop()
        self._folder.cleanup()

    def stamp(self) -> Stamp:
        """Now; Redis is on this machine, and has its clock."""
        return Stamp(farm_id=self.farm_id, sent_at=time.time())

    def signed(self, order: RenderOrder) -> SignedMessage:
        return sign_order(order, self.stamp(), self.key)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self.silent:
            return 503, b"later"
        words = path.strip("/").split("/")
        if words[1] == "join":
            self.joins.append(from_json(JoinRequest, body))
            wish = self.joins[-1]
            answer = JoinAnswer(
                name=wish.wanted_name,
                redis_url=self.login_of(wish),
                queue=queue_of(wish.node_id),
                farm_id=self.farm_id,
                archive_key=TOKEN,
                order_key=public_key_text(self.key),
            )
            return 200, to_json(answer).encode()
        if words[1] == "archives":
            self.fetched.append(words[2])
            return (200, self._plan(words[2])) if words[2] in self.archives else (404, b"no")
        return self._lease(words[2], words[3], query, body)

    def _plan(self, md5: str) -> bytes:
        content = self.archives[md5]
        pieces = [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]
        plan = ArchiveManifest(
            md5=md5,
            size=len(content),
            piece_bytes=BLOCK_BYTES,
            sums=tuple(sum_of(piece) for piece in pieces),
            sources=ArchiveSources(coordinator=f"http://127.0.0.1:{self._archive_server.port}"),
        )
        return to_json(plan).encode()

    def _shared(self, md5: str) -> SharedArchive | None:
        content = self.archives.get(md5)
        if content is None:
            return None
        path = Path(self._folder.name) / md5
        path.write_bytes(content)
        count = pieces_in(len(content), BLOCK_BYTES)
        return SharedArchive(path=path, size=len(content), piece_bytes=BLOCK_BYTES, pieces=all_of(count))

    def _lease(self, lease_id: str, verb: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if lease_id in self.stale:
            return 409, json.dumps({"detail": "this attempt is no longer yours"}).encode()
        if verb == "start":
            self.starts.append((lease_id, int(query["attempt"])))
            return 200, to_json(StartAnswer(scene_password=self.passwords.get(lease_id, ""))).encode()
        if verb == "frame":
            self.takes_frames.wait(30)
            assert hashlib.md5(body).hexdigest() == query["md5"]
            self.frames[lease_id], self.reports[lease_id] = body, query
        else:
            self.failures[lease_id] = from_json(FailureReport, body)
        return 200, b"{}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        coordinator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, content = 401, b'{"detail": "no"}'
                else:
                    status, content = coordinator.answer(self.command, parts.path, query, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _do  # noqa: N815 (http.server's names)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


class WorkerHarness:
    """The worker process and everything around it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.work_dir = folder, folder / "worker"
        self.redis = RedisServer(folder)
        self.coordinator = FakeCoordinator()
        self.coordinator.redis_url = self.redis.url
        self.settings = settings
        self.program = "from sheepfold.cli import main; main(['worker'])"
        self.log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> WorkerHarness:
        env = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
        env |= {
            "SHEEPFOLD_COORDINATOR_URL": self.coordinator.url,
            "SHEEPFOLD_FARM_TOKEN": TOKEN,
            "SHEEPFOLD_NODE_NAME": "pc-03",
            "SHEEPFOLD_WORK_DIR": str(self.work_dir),
            "SHEEPFOLD_ALLOW_ROOT": "1",
            # The null renderer is a script of the tests' own Python, and writes outside of its folder.
            "SHEEPFOLD_SANDBOX": "off",
            **self.settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", self.program], env=env, stderr=log, stdout=log)
        return self

    def until_ready(self, times: int = 1) -> WorkerHarness:
        """Takes orders; ``times``: started anew in the same process so often. Fails at once when the process ended."""
        wait_for(
            lambda: self.log.read_bytes().count(b"ready.") >= times or self._is_stuck(times), START_WALL_S, "ready"
        )
        wait_for(self.presence, 10, "presence")
        return self

    def _is_stuck(self, starts: int) -> bool:
        assert self.process
        assert self.process.poll() is None, f"the worker ended: {self.log.read_text()[-2000:]}"
        used = psutil.Process(self.process.pid).cpu_times()
        assert used.user + used.system < starts * START_CPU_S, (
            f"the worker does not start: {self.log.read_text()[-2000:]}"
        )
        return False

    def presence(self) -> Presence | None:
        keys = list(self.redis.client.scan_iter(presence_key("*")))
        text = self.redis.client.get(keys[0]) if keys else None
        return from_json(Presence, text) if text else None

    @property
    def node_id(self) -> str:
        return (self.work_dir / "node-id").read_text()

    def order(self, frame: str, *, attempt: int = 1, **changes: Any) -> RenderOrder:
        """Sends an order for this frame."""
        order = self.order_for(frame, attempt=attempt, **changes)
        self.send(self.coordinator.signed(order), order)
        return order

    def send(self, signed: SignedMessage, order: RenderOrder) -> None:
        """Into this node's queue, whatever is inside; Flower is shown ``order``."""
        send_order(make_app(self.coordinator.redis_url), signed, order, "pc-03")

    def cancel(self, order: RenderOrder) -> None:
        cancel = Cancel(node_id=order.node_id, lease_id=order.lease_id, attempt=order.attempt)
        self.send_cancel(sign_cancel(cancel, self.coordinator.stamp(), self.coordinator.key))

    def send_cancel(self, signed: SignedMessage) -> None:
        """To this node, whatever is inside."""
        cancel_order(make_app(self.coordinator.redis_url), "pc-03", signed)

    def order_for(self, frame: str, *, attempt: int = 1, **changes: Any) -> RenderOrder:
        """An order that was not sent."""
        return RenderOrder(
            **{
                "lease_id": uuid.uuid4().hex,
                "attempt": attempt,
                "node_id": self.node_id,
                "job_id": "77",
                "job_name": "demo",
                "frame": frame,
                "revision": "3",
                "scene_path": "shots/scene.blend",
                "command_line": COMMAND_LINE,
                "script": "import bpy\nSECRET_SCRIPT = 1\n",
                "update_method": "remainingtime",
                "use_gpu": False,
                "scene_archives": (scene_archive()[0],),
                "renderer_archive": renderer_archive()[0],
                **changes,
            }
        )

    def stop(self, how: int = signal.SIGTERM, seconds: float = 10) -> float:
        """Seconds it took."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(seconds)
        return time.monotonic() - began

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.coordinator.close()
        self.redis.stop()
        remove(self.work_dir)
