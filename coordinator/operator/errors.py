"""Why a command to a running coordinator cannot be carried out.

::

    OperatorError
    ├── NoAnswerFromCoordinator   no coordinator is at the address, or it gives no usable answer
    ├── NotFound                  404: the coordinator knows nothing of that name
    └── NoFarmToken               the command has no farm token: a setting is wrong

That Flower's address cannot be listened on is :class:`coordinator.runtime.errors.AddressInUse`.
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class OperatorError(SheepfoldError):
    """The command cannot be carried out."""


class NoAnswerFromCoordinator(OperatorError):
    """No coordinator answers at this address, or it gives no usable answer."""


class NotFound(OperatorError):
    """The coordinator knows nothing of that name."""


class NoFarmToken(OperatorError):
    """SHEEPFOLD_FARM_TOKEN: neither set nor in the state folder."""

    exit_code = ExitCode.WRONG_SETTING
