"""Whose fault a failure is, and what to do about it. Pure.

A node's own trouble is never the frame's: it costs the frame no attempt and pauses the node. What is the scene's fault
will be so on every PC: the job is put on hold. Of the rest nobody knows, so another PC tries.
"""

from __future__ import annotations

from enum import StrEnum

from .api_messages import FailureKind


class Cause(StrEnum):
    """Whose fault a failure is: decides whether the node is paused, the job put on hold, or another PC tried."""

    NODE = "node"
    #: Of the scene, its archives, or the order that the server wrote.
    SCENE = "scene"
    UNKNOWN = "unknown"


_KINDS = {
    Cause.NODE: (
        FailureKind.DISK_FULL,
        FailureKind.FOLDER,
        FailureKind.NO_BLENDER,
        FailureKind.MISSING_LIBRARIES,
        FailureKind.NO_ARCHIVE,
        FailureKind.NODE_LEAVING,
        FailureKind.INTERNAL,
    ),
    Cause.SCENE: (
        FailureKind.NO_CAMERA,
        FailureKind.NO_ENGINE,
        FailureKind.SCENE_UNREADABLE,
        FailureKind.NOTHING_TO_RENDER,
        FailureKind.BAD_ARCHIVE,
        FailureKind.BAD_ORDER,
    ),
    Cause.UNKNOWN: (
        FailureKind.RENDERER_CRASHED,
        FailureKind.NO_OUTPUT,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.TIME_LIMIT,
        FailureKind.RESOURCE_LIMIT,
        FailureKind.BAD_PICTURE,
        FailureKind.NOT_UPLOADED,
        FailureKind.NODES_DOWN,
        FailureKind.CANCELLED,
    ),
}
#: Every kind has exactly one cause.
CAUSES: dict[FailureKind, Cause] = {kind: cause for cause, kinds in _KINDS.items() for kind in kinds}

#: What its operator does about a node's own trouble.
REMEDIES: dict[FailureKind, str] = {
    FailureKind.DISK_FULL: "free some space on the disk of its work folder",
    FailureKind.FOLDER: "let the worker read and write its work folder",
    FailureKind.NO_BLENDER: "install Blender there, or let SHEEPFOLD_BLENDER name it",
    FailureKind.MISSING_LIBRARIES: "install what is missing there",
    FailureKind.NO_ARCHIVE: "let it reach PORT and ARCHIVE_PORT of the coordinator",
    FailureKind.INTERNAL: "look into the log of its worker",
}


def cause_of(kind: FailureKind) -> Cause:
    return CAUSES[kind]
