"""Flower, run inside this process: what each PC renders, on a page behind a login.

Flower's own command would take Redis' address and its login from the command line, where every user of the machine
reads them; here both go straight into its objects. It shows and changes nothing: ``read_only`` refuses every call that
would start, revoke or limit tasks or stop workers, and no control message enables events, because our workers send
them anyway.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from coordinator.access.made_secrets import kept_secret
from coordinator.runtime.errors import AddressInUse
from coordinator.settings import FarmSettings
from sheepfold.config import refuse_published
from sheepfold.contract.celery_app import make_app

from .errors import NoAnswerFromCoordinator

log = logging.getLogger(__name__)

#: Frames kept for the page; at 1,000 PCs that is still a few minutes of work, and 100,000 would be 300 MB.
MAX_TASKS = 5000
#: A PC that is gone leaves the page after this many seconds; Flower never forgets one by itself.
FORGET_WORKER_AFTER_S = 60
#: How long workers are waited for when the page asks them about themselves.
INSPECT_TIMEOUT_MS = 2000
#: A farm that starts has its first frame a few seconds after its coordinator.
ASK_AGAIN_S = 0.5
#: A call to a Redis that hangs must not keep us past the ten seconds every command has to stop.
STOP_WITHIN_S = 8
#: What a person wants to know first comes first. Every task has the same name, so that column would say nothing; the
#: page opens with the newest on top as long as ``received`` is among them.
COLUMNS = "args,state,worker,received,started,runtime,exception"
COLUMN_TITLES = {"args": "Frame", "worker": "PC", "exception": "Reason"}


class FlowerSettings(FarmSettings):
    """What ``sheepfold flower`` reads; where Redis is, the coordinator tells it, and how Flower logs in there."""

    #: Where Flower listens.
    flower_host: str = Field(default="127.0.0.1", min_length=1)
    #: Port of Flower's page.
    flower_port: int = Field(default=5555, ge=1, le=65535)
    #: Who may look.
    flower_user: str = Field(default="sheepfold", pattern=r"^[^:\s]+$")
    #: With which password. Unset: made once and kept in ``flower-password`` in the state folder.
    flower_password: SecretStr | None = Field(default=None, min_length=8)
    #: A file whose first line is that password; passed over where ``FLOWER_PASSWORD`` is set.
    flower_password_file: Path | None = None


def run_flower(settings: FlowerSettings, ask_redis_url: Callable[[], str], *, wait: bool = False) -> None:
    """Serve Flower until SIGTERM or Ctrl+C.

    Raises :class:`AddressInUse`, :class:`BadSecretFile` or :class:`PublishedSecret`, and what ``ask_redis_url`` raises;
    while no coordinator answers, ``wait`` asks again.
    """
    refuse_published(settings.flower_host, {"SHEEPFOLD_FLOWER_PASSWORD": settings.flower_password})
    password = _password(settings)
    # The slow part of a start, so that no frame is missed between the coordinator's answer and ours.
    importlib.import_module("flower.app")
    flower = _make_flower(_answer(ask_redis_url) if wait else ask_redis_url(), settings, password)
    try:
        flower.start_http_server()
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressInUse("SHEEPFOLD_FLOWER_PORT", settings.flower_host, settings.flower_port, reason) from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: flower.io_loop.add_callback_from_signal(_stop, flower))
    log.info("Flower is at http://%s:%s, user %s", settings.flower_host, settings.flower_port, settings.flower_user)
    flower.start()


def _answer(ask: Callable[[], str]) -> str:
    is_told = False
    while True:
        try:
            return ask()
        except NoAnswerFromCoordinator as silent:
            if not is_told:
                log.warning("%s; asking again", silent)
            is_told = True
        time.sleep(ASK_AGAIN_S)


def _stop(flower: Any) -> None:
    log.info("Flower stops")
    last_resort = threading.Timer(STOP_WITHIN_S, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    flower.stop()


def _make_flower(redis_url: str, settings: FlowerSettings, password: str) -> Any:
    # Flower is imported late: it starts threads and takes a second.
    from flower.app import Flower
    from flower.options import options
    from flower.urls import settings as web_settings
    from flower.views import tasks
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    class GuardedMetrics(Metrics):
        """Flower leaves its metrics open to everybody."""

        @authenticated
        async def get(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator's type)
            await super().get()

    options.address = settings.flower_host
    options.port = settings.flower_port
    options.basic_auth = [f"{settings.flower_user}:{password}"]
    options.read_only = True
    options.enable_events = False
    options.max_tasks = MAX_TASKS
    options.purge_offline_workers = FORGET_WORKER_AFTER_S
    options.inspect_timeout = float(INSPECT_TIMEOUT_MS)
    options.tasks_columns = COLUMNS
    options.format_task = readable
    tasks.TASK_COLUMNS.update(COLUMN_TITLES)
    # Refused logins, and workers that had no time to answer: nothing an operator could mend.
    for noisy in ("tornado.access", "flower.inspector"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    flower = Flower(options=options, capp=make_app(redis_url), **web_settings)
    flower.add_handlers(".*", [(r"/metrics", GuardedMetrics)])
    return flower


def readable(task: Any) -> Any:
    """Flower's task as the page shows it: an exception is its message, not Python's way to write one."""
    if match := re.fullmatch(r"\w+\((['\"])(.*)\1,?\)", task.exception or "", re.DOTALL):
        task.exception = match[2]
    return task


def password_file(state_dir: Path) -> Path:
    """Where a password made by :func:`run_flower` is kept."""
    return state_dir / "flower-password"


def _password(settings: FlowerSettings) -> str:
    if settings.flower_password is not None:
        return settings.flower_password.get_secret_value()
    file = password_file(settings.state_dir)
    log.info("SHEEPFOLD_FLOWER_PASSWORD is not set; Flower's password is in %s", file)
    return kept_secret(file, "SHEEPFOLD_FLOWER_PASSWORD")
