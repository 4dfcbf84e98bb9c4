"""The farm in containers, as the first `docker compose up` gives it, with three workers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.farm.composed_farm import BUILD_S, ComposedFarm
from tests.support.farm.running_farm import wait_for

PCS = ["worker@pc", "worker@pc-02", "worker@pc-03"]
FRAMES = 12
#: The demo has 12 frames of a second or two; a machine with two cores starts seven containers beside it.
RENDERED_WITHIN_S = 240
#: Every part promises ten; Docker needs a moment for each of seven containers.
STOPPED_WITHIN_S = 30


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_the_composed_farm_renders_the_demo_and_flower_tells_the_truth(compose_command: list[str]) -> None:
    """Given a fresh clone, when compose brings up three workers, the demo is accepted and Flower is readable."""
    with ComposedFarm(compose_command) as farm:
        built_s = farm.timed("build", within_s=BUILD_S)
        up_s = farm.timed("up", "--detach", "--scale", "worker=3")
        flower = FlowerPages(farm)

        during = wait_for("every PC renders", flower.all_rendering, RENDERED_WITHIN_S)
        workers = wait_for("three workers", flower.three_workers, RENDERED_WITHIN_S)
        show_workers(workers)
        show_tasks("while frames were rendering", during)
        project = wait_for("the demo is accepted", lambda: accepted(farm), RENDERED_WITHIN_S)
        after = wait_for("every task has ended", flower.all_ended, 30)
        show_tasks("when the demo was accepted", after)

        assert sorted(workers) == PCS
        assert (project["accepted"], project["frames"]) == (FRAMES, FRAMES)
        assert all(is_readable(task) for task in [*during.values(), *after.values()])
        assert {task["state"] for task in during.values()} <= {"PENDING", "RECEIVED", "STARTED", "SUCCESS"}
        assert sum(task["state"] == "STARTED" for task in during.values()) <= len(PCS), "one slot each"
        assert sorted(frame_of(task) for task in after.values()) == [f"{n:04d}" for n in range(1, FRAMES + 1)]

        assert flower.without_login() == {"/api/tasks": 401, "/api/workers": 401, "/tasks": 401, "/metrics": 401}
        assert looks_at_coordinator(farm) == {"viewer": 200, "farm token": 401, "nobody": 401}
        worker = json.loads(farm.run("exec", "-T", "coordinator", "sheepfold", "status", "--json"))
        assert [node["name"] for node in worker["nodes"]] == ["pc", "pc-02", "pc-03"]
        assert farm.flower("/api/worker/shutdown/worker@pc", method="POST")[0] == 403
        assert farm.flower("/api/task/send-task/render", method="POST")[0] == 403
        for page in ("/tasks", "/workers", "/broker", "/metrics", *(f"/task/{task}" for task in after)):
            flower.ask(page)
        assert flower.pages_with_a_secret() == []
        assert secrets_in(farm, farm.run("top")) == []
        assert secrets_in(farm, farm.run("logs", "--no-color")) == []

        stopped_s = farm.timed("stop", "--timeout", str(STOPPED_WITHIN_S))
        print(f"\nbuilt in {built_s:.0f} s, up in {up_s:.0f} s, stopped in {stopped_s:.0f} s")
        assert {
            container["Name"]: container["State"]["ExitCode"]
            for container in farm.containers()
            if container["State"]["ExitCode"]
        } == {}
        assert stopped_s < STOPPED_WITHIN_S


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_the_studio_profile_leaves_the_lab_server_out(compose_command: list[str]) -> None:
    """Given the tracked .env, which asks for the lab, when --profile studio is given, no server is created."""
    with ComposedFarm(compose_command) as farm:
        farm.run("build", within_s=BUILD_S)
        farm.run("--profile", "studio", "up", "--no-start")
        services = {container["Config"]["Labels"]["com.docker.compose.service"] for container in farm.containers()}
        assert services == {"redis", "studio-coordinator", "worker", "flower"}


class FlowerPages:
    """What Flower said, every word of it, to be searched for secrets at the end."""

    def __init__(self, farm: ComposedFarm) -> None:
        self._farm = farm
        self._printed: dict[str, set[str]] = {}

    def ask(self, path: str) -> str:
        """A page that has to be there."""
        status, text = self._farm.flower(path)
        assert status in (0, 200), f"{path}: {status} {text[:300]}"
        self._printed.setdefault(path, set()).add(text)
        return text

    def _tasks(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.ask("/api/tasks") or "{}")

    def all_rendering(self) -> dict[str, dict[str, Any]] | None:
        """All tasks, at a moment when every PC renders one."""
        tasks = self._tasks()
        busy = {task["worker"] for task in tasks.values() if task["state"] == "STARTED"}
        return tasks if sorted(busy) == PCS else None

    def all_ended(self) -> dict[str, dict[str, Any]] | None:
        """All tasks, once each has succeeded."""
        tasks = self._tasks()
        return tasks if all(task["state"] == "SUCCESS" for task in tasks.values()) else None

    def three_workers(self) -> dict[str, dict[str, Any]] | None:
        """What Flower's list of workers tells, once it has all: their events, they answer no inspection."""
        workers = {worker["hostname"]: worker for worker in json.loads(self.ask("/workers?json=1") or "{}")["data"]}
        return workers if len(workers) == len(PCS) else None

    def without_login(self) -> dict[str, int]:
        """How Flower answers somebody it doesn't know."""
        pages = ("/api/tasks", "/api/workers", "/tasks", "/metrics")
        return {page: self._farm.flower(page, login=False)[0] for page in pages}

    def pages_with_a_secret(self) -> list[str]:
        """Every page on which one of the farm's secrets stood."""
        return [page for page, texts in self._printed.items() if any(secrets_in(self._farm, text) for text in texts)]


def secrets_in(farm: ComposedFarm, text: str) -> list[str]:
    """Names of the secrets that stand in a text."""
    return [name for name, secret in farm.secrets.items() if secret in text]


def looks_at_coordinator(farm: ComposedFarm) -> dict[str, int]:
    """How the coordinator answers who wants its status."""
    logins = {
        "viewer": ("viewer", farm.secrets["SHEEPFOLD_VIEWER_PASSWORD"]),
        "farm token": ("viewer", farm.secrets["SHEEPFOLD_FARM_TOKEN"]),
        "nobody": None,
    }
    return {who: farm.coordinator("/api/status", login)[0] for who, login in logins.items()}


def accepted(farm: ComposedFarm) -> dict[str, Any] | None:
    """The demo project, once the server has taken every frame."""
    status, text = farm.server("/api/projects")
    if status != 200:
        return None
    demo = next(project for project in json.loads(text)["projects"] if project["name"] == "demo")
    return demo if demo["accepted"] == demo["frames"] else None


def is_readable(task: dict[str, Any]) -> bool:
    """Whether a task reads ``frame 0012 · demo · pc-03``, tells nothing else, and runs on the PC it names."""
    match = re.fullmatch(r"frame \d{4} · demo · (pc(?:-\d\d)?)", task["args"])
    # A task that is only sent has no worker yet.
    return match is not None and task["kwargs"] == "{}" and task["worker"] in (None, f"worker@{match[1]}")


def frame_of(task: dict[str, Any]) -> str:
    """``0012`` of ``frame 0012 · demo · pc-03``."""
    return task["args"].split()[1]


def show_workers(workers: dict[str, dict[str, Any]]) -> None:
    """A short table."""
    print("\nFlower's /workers")
    for name, worker in sorted(workers.items()):
        print(f"  {name:<14} {'online' if worker['status'] else 'offline'}")


def show_tasks(when: str, tasks: dict[str, dict[str, Any]]) -> None:
    """A short table."""
    print(f"\nFlower's /api/tasks {when}")
    for task in sorted(tasks.values(), key=frame_of):
        runtime = f"{task['runtime']:.1f} s" if task["runtime"] else ""
        print(f"  {task['args']:<28} {task['state']:<9} {task['worker']:<14} {runtime}")
