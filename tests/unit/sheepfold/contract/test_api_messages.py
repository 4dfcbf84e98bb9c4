"""What nodes ask and report, without its secrets."""

from __future__ import annotations

from sheepfold.contract.api_messages import StartAnswer
from tests.support.wire.contract_messages import MESSAGES


def test_a_redis_address_and_a_scenes_password_never_show() -> None:
    assert "pw" not in repr(MESSAGES[4])
    assert "opens it" not in repr(StartAnswer(scene_password="opens it"))
