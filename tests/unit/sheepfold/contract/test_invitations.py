"""The line that a person carries to a PC."""

from __future__ import annotations

import pytest

from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.invitations import Invitation

FINGERPRINT, CODE = "ab" * 32, "0123456789abcdef"


@pytest.mark.parametrize("address", ["192.168.1.10:8420", "farm.studio:1", "[fd00::1]:8420"])
def test_what_is_printed_can_be_read_again(address: str) -> None:
    invitation = Invitation(address=address, fingerprint=FINGERPRINT, code=CODE)
    assert Invitation.from_line(f"  {invitation.line}\n") == invitation
    assert invitation.url == f"https://{address}"
    assert len(invitation.line.split()) == 1


def test_the_code_is_in_no_log() -> None:
    assert CODE not in repr(Invitation(address="h:1", fingerprint=FINGERPRINT, code=CODE))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "https://192.168.1.10:8420",
        f"sheepfold://192.168.1.10:8420/{FINGERPRINT}",
        f"sheepfold://192.168.1.10:8420/{FINGERPRINT[:-1]}/{CODE}",
        f"sheepfold://192.168.1.10:8420/{FINGERPRINT}/{CODE}/more",
        f"sheepfold://user@192.168.1.10:8420/{FINGERPRINT}/{CODE}",
        f"sheepfold://192.168.1.10/{FINGERPRINT}/{CODE}",
        f"sheepfold://192.168.1.10:8420/{FINGERPRINT}/{CODE}\nsheepfold://x",
        f"sheepfold://h:١/{FINGERPRINT}/{CODE}",
    ],
)
def test_half_a_line_or_another_one_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(MalformedContract, match="no line of") as refused:
        Invitation.from_line(line)
    assert CODE not in str(refused.value)
