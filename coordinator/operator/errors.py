"""Why a command to a running coordinator cannot be carried out.

::

    OperatorError
    ├── CoordinatorUnreachable   no coordinator answers at the address
    ├── NotFound                 404: the coordinator knows nothing of that name
    ├── NoFarmToken              the command has no farm token: a setting is wrong
    └── FlowerAddressTaken       Flower's address cannot be listened on: a setting is wrong
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class OperatorError(SheepfoldError):
    """The command cannot be carried out."""


class CoordinatorUnreachable(OperatorError):
    """No coordinator answers at this address."""


class NotFound(OperatorError):
    """The coordinator knows nothing of that name."""


class NoFarmToken(OperatorError):
    """SHEEPFOLD_FARM_TOKEN: neither set nor in the state folder."""

    exit_code = ExitCode.WRONG_SETTING


class FlowerAddressTaken(OperatorError):
    """SHEEPFOLD_FLOWER_PORT: cannot listen there."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port, self.reason = host, port, reason
        super().__init__(f"SHEEPFOLD_FLOWER_PORT: cannot listen on {host}:{port}: {reason}")
