"""The message an order travels in: what Flower shows of it, and what it never shows."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from render_tasks.errors import FrameFailed
from render_tasks.tasks import FrameDropped
from sheepfold.contract.celery_app import attempt_of, cancel_order, make_app, send_order, task_id_of
from sheepfold.contract.orders import CANCEL_COMMAND, ArchiveRef, RenderOrder, celery_name_of, queue_of
from sheepfold.contract.signing import sign_cancel, sign_order
from tests.support.wire.contract_messages import CANCEL, KEY, STAMP

ORDER = RenderOrder(
    lease_id="ab12", attempt=3, node_id="n1", job_id="7", job_name="demo", frame="0012", revision="0",
    scene_path="a.blend",
    command_line=".e -b .c", script="HIDDEN_SCRIPT", update_method="", use_gpu=True,
    scene_archives=(ArchiveRef(md5="0" * 32, size=1),), renderer_archive=ArchiveRef(md5="1" * 32, size=2),
)  # fmt: skip


@pytest.fixture
def app_and_queue() -> Any:
    """An app on kombu's in-memory transport, and what lies in a node's queue."""
    app = make_app("memory://")
    app.conf.broker_transport_options = {}

    def take() -> list[Any]:
        found = []
        with app.connection() as connection:
            queue = connection.SimpleQueue(app.amqp.queues[queue_of("n1")])
            while queue.qsize():
                found.append(queue.get(block=False))
        return found

    return app, take


def test_flower_shows_frame_job_and_pc_and_nothing_else(app_and_queue: Any) -> None:
    app, take = app_and_queue
    signed = sign_order(ORDER, STAMP, KEY)
    send_order(app, signed, ORDER, "pc-03")
    (message,) = take()
    assert message.headers["argsrepr"] == "frame 0012 · demo · pc-03"
    assert message.headers["kwargsrepr"] == "{}"
    assert message.headers["id"] == "ab12.3"
    assert message.headers["task"] == "render"
    assert "HIDDEN_SCRIPT" not in repr(message.headers)
    assert signed.signature not in repr(message.headers)


def test_the_order_travels_whole_in_the_body(app_and_queue: Any) -> None:
    app, take = app_and_queue
    signed = sign_order(ORDER, STAMP, KEY)
    send_order(app, signed, ORDER, "pc-03")
    (message,) = take()
    body = message.body
    if message.content_encoding == "binary":
        body = base64.b64decode(body)
    _, kwargs, _ = json.loads(body)
    assert kwargs == {"text": signed.text, "signature": signed.signature}
    assert message.content_type == "application/json"


def test_a_cancel_names_its_worker_and_waits_for_nobody(app_and_queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = app_and_queue
    sent: dict[str, Any] = {}
    monkeypatch.setattr(app.control, "broadcast", lambda command, **more: sent.update(command=command, **more))
    signed = sign_cancel(CANCEL, STAMP, KEY)
    cancel_order(app, "pc-03", signed)
    assert sent == {
        "command": CANCEL_COMMAND,
        "arguments": {"text": signed.text, "signature": signed.signature},
        "destination": [celery_name_of("pc-03")],
        "reply": False,
    }


@pytest.mark.parametrize(("lease_id", "attempt"), [("ab12", 1), ("a.b", 12)])
def test_a_task_id_names_its_attempt(lease_id: str, attempt: int) -> None:
    assert attempt_of(task_id_of(lease_id, attempt)) == (lease_id, attempt)


@pytest.mark.parametrize("task_id", ["", "ab12", ".1", "ab12.x", "7f6b3cd8-18c9-4438-9468-e79b291bc741"])
def test_a_foreign_task_id_names_none(task_id: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        attempt_of(task_id)


@pytest.mark.parametrize("error", [FrameFailed("disk full: no room"), FrameDropped("cancelled")])
def test_what_celery_sees_of_an_end_survives_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args) == (type(error), error.args)


def test_sending_needs_no_worker_code() -> None:
    code = (
        "import sys, sheepfold.contract.celery_app;"
        "print([name for name in sys.modules if name.startswith('render_tasks.') or name in ('psutil', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
