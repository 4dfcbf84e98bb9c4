"""Where the coordinator hands out archives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.archives.listener import ABOVE_API, ArchiveListener
from coordinator.archives.store import ArchiveStore
from coordinator.runtime.errors import AddressInUse
from coordinator.settings import CoordinatorSettings


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class OwnAddress:
    def archive_url_for(self, reached_by: str, port: int) -> str:
        return f"http://{reached_by}:{port}"


def listener_for(**settings: int | None) -> ArchiveListener:
    given = CoordinatorSettings.model_construct(host="127.0.0.1", **{"port": 8420, "archive_port": None} | settings)
    return ArchiveListener(ArchiveStore(Path("/nowhere"), quota_bytes=1), "token", given, OwnAddress())


def port_for(**settings: int | None) -> int:
    listener = listener_for(**settings)
    assert listener.port == 0, "building takes no port"
    try:
        listener.bind()
    finally:
        listener.stop()
    return listener.port


def test_a_port_nobody_asked_for_gives_way_to_another_farm(taken_port: int) -> None:
    assert port_for(port=taken_port - ABOVE_API) not in (taken_port, 0)
    assert port_for(port=65535) > 0, "three above there is none"


def test_a_port_that_was_asked_for_is_that_port_or_an_error(taken_port: int) -> None:
    with pytest.raises(AddressInUse, match="SHEEPFOLD_ARCHIVE_PORT"):
        port_for(archive_port=taken_port)
    assert port_for(archive_port=0) > 0


def test_others_find_it_at_the_port_it_got_by_the_name_they_know_us_by() -> None:
    listener = listener_for(archive_port=0)
    listener.bind()
    try:
        assert listener.url_for("farm.lan") == f"http://farm.lan:{listener.port}"
        assert listener.bytes_moved() == {"from_server": 0, "to_lan": 0}
    finally:
        listener.stop()
