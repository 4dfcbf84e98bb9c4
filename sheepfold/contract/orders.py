"""Orders: one attempt at one frame for one node. Pure.

An order travels, signed (:mod:`sheepfold.contract.signing`), through Redis in ``farm.<node id>``, a list: the Celery
queue of one node (Celery's own keys aside).

A scene is an ordered tuple of archives: one zip, or the chunks of one. Each archive is fetched, kept and shared by
its own MD5; the whole scene is known by its :func:`scene_key`. A scene's password is in
:class:`~sheepfold.contract.api_messages.StartAnswer` and in no other message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Celery's name of the one task.
RENDER_TASK = "render"

#: Celery's name of the control command that ends a render; arguments ``text`` and ``signature``.
CANCEL_COMMAND = "cancel_lease"

#: What an archive is called everywhere; nothing else becomes a path.
MD5_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)

#: Jobs below are a service's own test frames: they measure one machine.
FIRST_ORDINARY_JOB = 20
#: With its stamp. An order is a few kB; the script is the longest part of it.
MAX_ORDER_BYTES = 4 * 1024 * 1024


def queue_of(node_id: str) -> str:
    """The Celery queue of one node."""
    return f"farm.{node_id}"


def celery_name_of(node_name: str) -> str:
    """The Celery worker name of a node; Flower shows it."""
    return f"worker@{node_name}"


@dataclass(frozen=True, kw_only=True)
class ArchiveRef:
    """An archive the coordinator holds, by content."""

    #: Lower-case hex; it becomes a path, so nothing else is let through.
    md5: str
    #: Bytes.
    size: int


def scene_key(md5s: Sequence[str]) -> str:
    """What a scene of these archives, in this order, is called: the MD5 of the only one, or of their joined MD5s."""
    if len(md5s) == 1:
        return md5s[0]
    return hashlib.md5("".join(md5s).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RenderOrder:
    """One attempt at one frame, for one node."""

    lease_id: str
    attempt: int
    node_id: str
    job_id: str
    #: A person's name for the job.
    job_name: str
    #: Exactly as the server wrote it (``"0340"``).
    frame: str
    #: The job's revision, as the server wrote it.
    revision: str
    #: Path of the .blend inside the scene archive, as the server wrote it.
    scene_path: str
    command_line: str
    script: str
    #: ``remainingtime``, ``blenderinternal``, ``by_tile`` or empty.
    update_method: str
    use_gpu: bool
    #: In order; their bytes, joined, are the scene's zip.
    scene_archives: tuple[ArchiveRef, ...]
    renderer_archive: ArchiveRef
    #: Seconds after which a render is killed and reported; ``None``: no limit.
    time_limit_s: int | None = None
    #: The node made this frame before and is asked whether it makes it so again: with a renderer started for it alone.
    fresh_renderer: bool = False
    #: The scene's zip wants a password, which comes with the :class:`StartAnswer`.
    scene_locked: bool = False


def is_test_job(job_id: str) -> bool:
    """Whether a job measures this PC instead of making somebody's film."""
    return job_id.isascii() and job_id.isdigit() and int(job_id[:10]) < FIRST_ORDINARY_JOB
