"""Orders get their slot as they came, whichever the coordinator answers first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.orders import render_pipeline
from render_tasks.orders.arrival_order import ArrivalOrder
from render_tasks.orders.attempts import Attempt
from render_tasks.orders.render_pipeline import RenderPipeline
from render_tasks.orders.services import NodeIdentity, NodeServices
from sheepfold.contract.api_messages import StartAnswer
from sheepfold.contract.orders import ArchiveRef, RenderOrder
from sheepfold.contract.presence import Compute, NodeHardware, Stage

WITHIN_S = 10
IDENTITY = NodeIdentity(
    node_id="n",
    name="pc-01",
    hardware=NodeHardware(
        os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="x", cpu_cores=4, ram=2**20
    ),
    slots=1,
    compute=Compute.CPU,
    cores=None,
)


class Cache:
    """Has every archive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def using(self, *_needs: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def ensure(self, *_arguments: object, **_options: object) -> Path:
        return self._folder


class Blenders:
    """Renders nothing; notes which frames it was given."""

    def __init__(self, picture: Path) -> None:
        self.frames: list[str] = []
        self._picture = picture

    def open_keys(self) -> tuple[object, ...]:
        return ()

    def render(self, job: RenderJob, *_arguments: object) -> RenderedFrame:
        self.frames.append(job.frame)
        return RenderedFrame(picture=self._picture, render_s=1, memory_kb=1, began_at=1, picture_at=2)


def order_of(frame: str) -> RenderOrder:
    return RenderOrder(
        lease_id=f"lease-{frame}",
        attempt=1,
        node_id="n",
        job_id="77",
        job_name="demo",
        frame=frame,
        revision="0",
        scene_path="scene.blend",
        command_line=".e -b .c -o .o -f .f",
        script="",
        update_method="",
        use_gpu=False,
        scene_archives=(ArchiveRef(md5="1" * 32, size=1),),
        renderer_archive=ArchiveRef(md5="2" * 32, size=1),
    )


def test_a_later_order_whose_fence_answers_sooner_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_pipeline, "ArrivalOrder", partial(ArrivalOrder, WITHIN_S))
    (tmp_path / "scene.blend").touch()
    blenders, asked, second_is_ready = Blenders(tmp_path), threading.Event(), threading.Event()

    def on_stage(attempt: Attempt, stage: Stage) -> None:
        if attempt.frame == "2" and stage is Stage.WAITING:
            second_is_ready.set()

    def slow_fence() -> StartAnswer:
        asked.set()
        assert second_is_ready.wait(WITHIN_S)
        return StartAnswer()

    services = NodeServices(**cast(Any, {
        "coordinator": None, "cache": Cache(tmp_path), "outbox": None, "guard": None, "scratch": tmp_path,
        "sandbox": None, "warm": blenders,
    }))  # fmt: skip
    pipeline = RenderPipeline(IDENTITY, services, on_stage)

    def begin(frame: str, came_at: float, pass_fence: Callable[[], StartAnswer]) -> threading.Thread:
        attempt = Attempt(lease_id=f"lease-{frame}", attempt=1, job_name="demo", frame=frame, came_at=came_at)
        arguments = (order_of(frame), pass_fence, attempt, tmp_path)
        thread = threading.Thread(target=pipeline.render, args=arguments, daemon=True)
        thread.start()
        return thread

    first = begin("1", 1, slow_fence)
    assert asked.wait(WITHIN_S)
    second = begin("2", 2, StartAnswer)
    for thread in (first, second):
        thread.join(WITHIN_S)
    assert blenders.frames == ["1", "2"]
