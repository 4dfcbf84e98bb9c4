"""How many frames a PC holds ready beside those it renders. Pure: no I/O, no clock.

A frame that waits at a PC keeps its slot from standing idle; a frame that waits long is a frame no other farm of the
server may render meanwhile. So it depends on how long this PC's frames take:

* very short ones: one more than usual, because the way of an order and of a picture is as long as the frame;
* up to a minute: what the setting says;
* slower ones: none, until Blender says that the frame under way is done within a minute.
"""

from __future__ import annotations

from sheepfold.contract.presence import Presence, Stage

#: Seconds. An order's whole way (request, order, fence) and a picture's (delivery, inspection) fit several times.
SHORT_FRAME_S = 2.0
#: Seconds a frame may be held unrendered, as far as can be foreseen.
HELD_AT_MOST_S = 60.0


def look_ahead_of(node: Presence, pace_s: float | None, usual: int) -> int:
    """Orders this PC may hold beside one for each slot.

    ``pace_s`` is how long its frames took lately (seconds), ``None`` while none has come; ``usual`` is the setting, for
    each slot.
    """
    if usual == 0:
        return 0
    if pace_s is not None and pace_s > HELD_AT_MOST_S:
        return min(usual * node.slots, sum(_is_nearly_done(node)))
    short = pace_s is not None and pace_s < SHORT_FRAME_S
    return node.slots * (usual + short)


def _is_nearly_done(node: Presence) -> list[bool]:
    return [
        slot.stage is Stage.RENDERING and slot.remaining_s is not None and slot.remaining_s <= HELD_AT_MOST_S
        for slot in node.busy
    ]


def new_pace(pace_s: float | None, render_s: float) -> float:
    """The pace after one more frame: a running mean that forgets, so that a PC's next job counts soon."""
    return render_s if pace_s is None else pace_s + (render_s - pace_s) / 4
