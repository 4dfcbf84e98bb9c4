"""``sheepfold doctor``: whether this PC is fit to render for the farm, and what to do where it is not.

Everything is tried, nothing is guessed: Blender is started, the sandbox is made, the coordinator is asked. A worker may
run meanwhile.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from render_tasks.blender.installed import LocalBlender, ask_version_in
from render_tasks.blender.sandbox.levels import Level
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.errors import NoSandbox, RunsAsRoot
from render_tasks.settings import WorkDirSettings, WorkerSettings
from sheepfold.config import address_parts
from sheepfold.units import bytes_text

from .hardening import choose_sandbox, refuse_root, sandbox_for
from .pinned_farm import PinnedFarm

ANSWER_S = 5.0
#: Less is not enough for one scene.
LITTLE_SPACE = 2 * 1024**3
REDIS_VARIABLE = "SHEEPFOLD_REDIS_URL"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_fine: bool
    #: What was found; where it is not fine, what to do.
    says: str


def examine() -> Iterator[Finding]:
    """Looks at one thing after the other; takes a few seconds."""
    settings: WorkerSettings | None = None
    try:
        settings = WorkerSettings()  # type: ignore[call-arg]
        yield Finding(what="settings", is_fine=True, says=f"for the coordinator at {settings.coordinator_url}")
    except ValidationError as error:
        wrong = ", ".join(f"SHEEPFOLD_{str(detail['loc'][0]).upper()}" for detail in error.errors() if detail["loc"])
        yield Finding(what="settings", is_fine=False, says=f"missing or wrong: {wrong or 'see sheepfold worker'}")
    if settings:
        yield _user(settings)
    sandbox, finding = _sandbox(settings)
    yield finding
    if sandbox:
        yield _blender(sandbox)
    work_dir = WorkDirSettings().work_dir
    yield _work_dir(work_dir)
    yield _farm(work_dir)
    if settings:
        yield _coordinator(settings.coordinator_url)
    yield _redis(os.environ.get(REDIS_VARIABLE, ""))


def _user(settings: WorkerSettings) -> Finding:
    try:
        refuse_root(settings)
    except RunsAsRoot as refusal:
        return Finding(what="user", is_fine=False, says=refusal.operator_line)
    is_root = os.name == "posix" and os.geteuid() == 0
    return Finding(what="user", is_fine=True, says="root, as SHEEPFOLD_ALLOW_ROOT says" if is_root else "not root")


def _sandbox(settings: WorkerSettings | None) -> tuple[Sandbox | None, Finding]:
    try:
        sandbox = choose_sandbox(settings) if settings else sandbox_for()
    except NoSandbox as missing:
        return None, Finding(what="sandbox", is_fine=False, says=missing.operator_line)
    better = f" (not better: {sandbox.why_not_better})" if sandbox.why_not_better else ""
    return sandbox, Finding(what="sandbox", is_fine=sandbox.level is not Level.NONE, says=sandbox.level.value + better)


def _blender(sandbox: Sandbox) -> Finding:
    found = LocalBlender(ask=functools.partial(ask_version_in, sandbox)).look()
    return Finding(what="Blender", is_fine=bool(found.version), says=found.version or found.why_not)


def _work_dir(path: Path) -> Finding:
    place = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(what="work folder", is_fine=False, says=f"{place} cannot be written by this user")
    free = shutil.disk_usage(place).free
    return Finding(what="work folder", is_fine=free >= LITTLE_SPACE, says=f"{path}, {bytes_text(free)} free")


def _farm(work_dir: Path) -> Finding:
    """A worker may run meanwhile: what names no farm is left to it."""
    try:
        pinned = PinnedFarm(work_dir).peek()
    except OSError as error:
        return Finding(what="farm", is_fine=False, says=f"{error.filename} cannot be read: {error.strerror}")
    if pinned is None:
        return Finding(what="farm", is_fine=True, says="none yet: this PC will belong to the first that it joins")
    says = f"{pinned.label}; if it was set up anew: sheepfold forget-farm, then start the worker again"
    return Finding(what="farm", is_fine=True, says=says)


def _coordinator(url: str) -> Finding:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/healthz", timeout=ANSWER_S):
            return Finding(what="coordinator", is_fine=True, says=f"{url} answers")
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding(what="coordinator", is_fine=False, says=f"{url} does not answer as one does: {why}")


def _redis(url: str) -> Finding:
    parts = address_parts(url) if url else None
    if parts is None or parts.hostname is None:
        return Finding(what="Redis", is_fine=True, says="the coordinator tells a worker where it is")
    where = f"{parts.hostname}:{parts.port or 6379}"
    try:
        socket.create_connection((parts.hostname, parts.port or 6379), timeout=ANSWER_S).close()
    except OSError as error:
        return Finding(what="Redis", is_fine=False, says=f"{where} does not answer: {error.strerror or error}")
    return Finding(what="Redis", is_fine=True, says=f"{where} answers")
