"""Which pictures are refused: those of another size than the project's, and black ones where others are not.

Black frames come from broken GPUs, and films have them. One between frames that show something is refused, once. When
it comes black a second time, from whoever renders it, that is how it looks, and the first refusal is taken back. A
client that says it made sure (``confirmed``) is believed at once. What is between others is told by the nearest
accepted frame on either side.

Every function with a connection runs inside the caller's transaction. ``black_refusals`` has one row at most for each
frame; it stays where the frame came out well later.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select

from sheepfold.pictures import Picture

from .database import black_refusals, frames

_ACCEPTED = select(frames.c.black).where(frames.c.project_id == bindparam("project"), frames.c.state == "accepted")
_BEFORE = _ACCEPTED.where(frames.c.number < bindparam("frame")).order_by(frames.c.number.desc()).limit(1)
_AFTER = _ACCEPTED.where(frames.c.number > bindparam("frame")).order_by(frames.c.number).limit(1)
_THIS = (black_refusals.c.project_id == bindparam("project")) & (black_refusals.c.number == bindparam("frame"))
_REFUSED = select(black_refusals.c.session_id).where(_THIS)
_FORGET = delete(black_refusals).where(_THIS).returning(black_refusals.c.session_id)
_REFUSE = insert(black_refusals)


def is_odd(db: Connection, project_id: int, number: int) -> bool:
    """Whether a black picture of this frame is to be refused: it comes for the first time, between others."""
    this = {"project": project_id, "frame": number}
    if db.execute(_REFUSED, this).first() is not None:
        return False
    around = [db.execute(query, this).scalar() for query in (_BEFORE, _AFTER)]
    return False in around and True not in around


def note_refusal(db: Connection, project_id: int, number: int, session_id: str) -> None:
    """It was refused and counts against this session, until it comes black again."""
    db.execute(_REFUSE, {"project_id": project_id, "number": number, "session_id": session_id})


def take_back_refusal(db: Connection, project_id: int, number: int) -> str | None:
    """The session that a refusal of this frame counts against; told once."""
    return db.execute(_FORGET, {"project": project_id, "frame": number}).scalar()


def is_misshapen(picture: Picture, width: int | None, height: int | None) -> bool:
    """Whether it has another size than the project's, in pixels; a project without a size takes any."""
    return bool(width and height) and (picture.width, picture.height) != (width, height)


def why_refused(picture: Picture | None, width: int | None, height: int | None) -> str:
    """What is wrong with an upload, in one line for a person; ``None``: it was no picture. Sizes are the project's."""
    if picture is None:
        return "refused (302): what came is no picture"
    if width and (picture.width, picture.height) != (width, height):
        return f"refused (301): {picture.width} x {picture.height} pixels, not {width} x {height}"
    return "refused (301): it is all black, and other frames are not"
