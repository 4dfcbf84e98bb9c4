"""Any number of PCs in one process, as the coordinator sees them: no Celery, no Blender, the same bytes on the wire.

    python -m benchmarks.fleet.simulated_nodes < plan.json

Each node is what a worker is to everybody else: it joins, keeps its presence alive, waits at its queue in Redis for
Celery's messages, listens to Celery's control channel, passes the start-fence, fetches the archives it lacks, takes as
long for a frame as it is told, and delivers a picture, over connections of its own. What it leaves out is what a PC
pays for alone: the renderer, the unpacking, the signature.

The plan is a :class:`Plan` as JSON, on one line. It runs until standard input ends, then writes a :class:`Result`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import secrets
import sys
import time
import uuid
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from benchmarks.fleet.raw_clients import HttpLines, RedisLine
from render_tasks.presence import AT_MOST_EVERY_S
from sheepfold.contract.api_messages import (
    CONTRACT_VERSION,
    NODE_SECRET_HEADER,
    ArchiveManifest,
    JoinAnswer,
    JoinRequest,
    archive_key,
    archive_pass,
)
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import RenderOrder, celery_name_of, scene_key
from sheepfold.contract.presence import (
    NODE_SILENT_AFTER_S,
    PRESENCE_EVERY_S,
    Compute,
    NodeHardware,
    Presence,
    SlotState,
    Stage,
    presence_key,
)
from sheepfold.contract.signing import CancelEnvelope, OrderEnvelope

#: Celery's control channel.
CONTROL = "/0.celery.pidbox"
GB = 1024**3
#: Joins at the same time: a classroom that is switched on.
JOINS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the nodes are told."""

    coordinator_url: str
    farm_token: str
    nodes: int
    #: Seconds a frame takes; each one varies by a fifth.
    render_s: float
    #: The picture that every node delivers, base64.
    picture: str
    #: File for the result, JSON.
    result: str


@dataclass(kw_only=True)
class Result:
    """What the nodes saw; times are seconds since 1970."""

    #: Lease → when its order was read from the queue.
    arrived: dict[str, float] = field(default_factory=dict)
    #: Lease → when the control channel told its node to end it.
    cancelled: dict[str, float] = field(default_factory=dict)
    delivered: int = 0
    stale: int = 0
    #: Anything that went otherwise, with how often.
    errors: dict[str, int] = field(default_factory=dict)

    def note(self, error: str) -> None:
        self.errors[error] = self.errors.get(error, 0) + 1


class Node:
    """One PC with one slot."""

    def __init__(self, plan: Plan, number: int, result: Result) -> None:
        self._plan, self._result = plan, result
        self._id, self._wanted = str(uuid.uuid4()), f"pc-{number:04d}"
        self._picture = base64.b64decode(plan.picture)
        self._secret = secrets.token_hex(32)
        self._lan_api = HttpLines(plan.coordinator_url, plan.farm_token, {NODE_SECRET_HEADER: self._secret})
        self._slot = asyncio.Semaphore(1)
        self._in_hand: dict[str, SlotState] = {}
        self._archives: dict[str, asyncio.Task[None]] = {}
        self._warm: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._hardware = NodeHardware(
            os="linux",
            bits="64bit",
            cpu_family="6",
            cpu_model="1",
            cpu_model_name="simulated",
            cpu_cores=8,
            ram=16 * GB,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        """Becomes a node and goes to work."""
        wish = JoinRequest(
            contract_version=CONTRACT_VERSION,
            node_id=self._id,
            secret=self._secret,
            wanted_name=self._wanted,
            hardware=self._hardware,
            slots=1,
            compute=Compute.CPU,
            fresh=True,
        )
        status, body = await self._lan_api.call("POST", "/api/join", to_json(wish).encode())
        if status != 200:
            raise RuntimeError(f"join: {status} {body[:200]!r}")
        self._joined = answer = from_json(JoinAnswer, body)
        self._celery_name = celery_name_of(answer.name)
        control = await RedisLine.open(answer.redis_url, self._on_control)
        await control.call("SUBSCRIBE", CONTROL)
        await self._say_here(await RedisLine.open(answer.redis_url))
        self._go(self._take_orders())

    def _go(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._noting(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _noting(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._result.note(f"{type(error).__name__}: {error}"[:200])

    async def _say_here(self, line: RedisLine) -> None:
        await self._write_record(line)
        self._go(self._keep_saying(line))

    async def _keep_saying(self, line: RedisLine) -> None:
        await asyncio.sleep(random.uniform(0, 1))
        while True:
            self._changed.clear()
            await self._write_record(line)
            await asyncio.sleep(AT_MOST_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PRESENCE_EVERY_S - AT_MOST_EVERY_S):
                    await self._changed.wait()

    async def _write_record(self, line: RedisLine) -> None:
        record = Presence(
            node_id=self._id,
            name=self._joined.name,
            hardware=self._hardware,
            slots=1,
            compute=Compute.CPU,
            busy=tuple(self._in_hand.values()),
            archives=tuple(sorted(md5 for md5, task in self._archives.items() if task.done())),
            warm=self._warm,
        )
        await line.call("SET", presence_key(self._id), to_json(record), "EX", NODE_SILENT_AFTER_S, "GET")

    async def _take_orders(self) -> None:
        line = await RedisLine.open(self._joined.redis_url)
        queues = [self._joined.queue, *(f"{self._joined.queue}:{priority}" for priority in range(1, 10))]
        while True:
            found = await line.call("BRPOP", *queues, 10)
            if isinstance(found, Exception):
                raise found
            if found:
                message = json.loads(found[1])
                _, arguments, _ = json.loads(base64.b64decode(message["body"]))
                order = from_json(OrderEnvelope, arguments["text"]).order
                self._result.arrived.setdefault(f"{order.lease_id}.{order.attempt}", time.time())
                self._go(self._carry_out(order))

    def _on_control(self, push: Any) -> None:
        said = json.loads(base64.b64decode(json.loads(push[2])["body"]))
        if self._celery_name in said["destination"]:  # everybody gets every message
            cancel = from_json(CancelEnvelope, said["arguments"]["text"]).cancel
            self._result.cancelled.setdefault(f"{cancel.lease_id}.{cancel.attempt}", time.time())

    async def _carry_out(self, order: RenderOrder) -> None:
        query = {"node": self._id, "attempt": order.attempt, "claim": uuid.uuid4().hex[:16]}
        status, _ = await self._lan_api.call("POST", f"/api/leases/{order.lease_id}/start?{urlencode(query)}")
        if status != 200:
            self._result.stale += 1
            if status != 409:
                self._result.note(f"start: {status}")
            return
        self._stage(order, Stage.FETCHING)
        try:
            for archive in (order.renderer_archive, *order.scene_archives):
                await self._archive(archive.md5)
            self._stage(order, Stage.WAITING)
            async with self._slot:
                self._stage(order, Stage.RENDERING)
                took = self._plan.render_s * random.uniform(0.8, 1.2)
                await asyncio.sleep(took)
                self._warm = (scene_key([archive.md5 for archive in order.scene_archives]),)
            self._stage(order, Stage.DELIVERING)
            await self._deliver(order, took)
        finally:
            del self._in_hand[order.lease_id]
            self._changed.set()

    def _stage(self, order: RenderOrder, stage: Stage) -> None:
        self._in_hand[order.lease_id] = SlotState(
            lease_id=order.lease_id, attempt=order.attempt, job_name=order.job_name, frame=order.frame, stage=stage
        )
        self._changed.set()

    async def _archive(self, md5: str) -> None:
        if md5 not in self._archives:
            self._archives[md5] = self._go(self._fetch(md5))
        await self._archives[md5]

    async def _fetch(self, md5: str) -> None:
        status, body = await self._lan_api.call("GET", f"/api/archives/{md5}?node={self._id}")
        if status != 200:
            raise RuntimeError(f"archive plan: {status}")
        plan = from_json(ArchiveManifest, body)
        lines = HttpLines(plan.sources.coordinator, archive_pass(archive_key(self._plan.farm_token), md5))
        # They are small: one piece, and thousands of nodes that find the archive server full come again soon.
        while (answer := await lines.call("GET", f"/archives/{md5}"))[0] == 503:
            await asyncio.sleep(random.uniform(0.1, 0.5))
        lines.close()
        status, body = answer
        if status != 200 or hashlib.md5(body, usedforsecurity=False).hexdigest() != md5:
            raise RuntimeError(f"archive: {status}")

    async def _deliver(self, order: RenderOrder, took: float) -> None:
        # A picture of its own, as a real frame is: a PNG may have anything behind its end.
        picture = self._picture + order.lease_id.encode()
        query = urlencode(
            {
                "node": self._id,
                "attempt": order.attempt,
                "name": "frame_0001.png",
                "md5": hashlib.md5(picture, usedforsecurity=False).hexdigest(),
                "render_s": f"{took:.3f}",
                "memory_kb": 50_000,
                "cores": 8,
            }
        )
        path = f"/api/leases/{order.lease_id}/frame?{query}"
        status, body = await self._lan_api.call("PUT", path, picture, "application/octet-stream")
        if status == 200:
            self._result.delivered += 1
        elif status == 409:
            self._result.stale += 1
        else:
            self._result.note(f"deliver: {status} {body[:100]!r}")


async def simulate(plan: Plan) -> Result:
    """Until standard input ends."""
    result = Result()
    nodes = [Node(plan, number + 1, result) for number in range(plan.nodes)]
    joining = asyncio.Semaphore(JOINS_AT_ONCE)

    async def join(node: Node) -> None:
        async with joining:
            await node.join()

    await asyncio.gather(*(join(node) for node in nodes))
    print("joined", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return result


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(simulate(plan))
    Path(plan.result).write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
