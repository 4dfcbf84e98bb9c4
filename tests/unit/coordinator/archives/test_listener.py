"""Where the coordinator hands out archives."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from coordinator.archives.listener import ABOVE_DEPOT, bind_archive_server
from coordinator.runtime.http_server import AddressInUse
from coordinator.settings import CoordinatorSettings
from sheepfold.sharing.archive_server import ArchiveServer


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def port_for(**settings: int | None) -> int:
    given = CoordinatorSettings.model_construct(host="127.0.0.1", **{"port": 8420, "archive_port": None} | settings)
    server = ArchiveServer(lambda _: None, "token", at_once=1)
    bind_archive_server(server, given)
    server.stop()
    return server.port


def test_a_port_nobody_asked_for_gives_way_to_another_farm(taken: int) -> None:
    assert port_for(port=taken - ABOVE_DEPOT) not in (taken, 0)
    assert port_for(port=65535) > 0, "three above there is none"


def test_a_port_that_was_asked_for_is_that_port_or_an_error(taken: int) -> None:
    with pytest.raises(AddressInUse, match="SHEEPFOLD_ARCHIVE_PORT"):
        port_for(archive_port=taken)
    assert port_for(archive_port=0) > 0
