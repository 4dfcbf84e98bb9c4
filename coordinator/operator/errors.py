"""Why a command to a running coordinator cannot be carried out.

::

    OperatorError
    ├── NoAnswerFromCoordinator   no coordinator is at the address, or it gives no usable answer
    ├── NotFound                  404: the coordinator knows nothing of that name
    └── NotYours                  401, 403: the password is wrong, or another role's is needed

That a command has no password is :class:`coordinator.access.errors.NoPassword`; that Flower's address cannot be
listened on, :class:`coordinator.runtime.errors.AddressInUse`.
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class OperatorError(SheepfoldError):
    """The command cannot be carried out."""


class NoAnswerFromCoordinator(OperatorError):
    """No coordinator answers at this address, or it gives no usable answer."""


class NotFound(OperatorError):
    """The coordinator knows nothing of that name."""


class NotYours(OperatorError):
    """The coordinator does not let this password's role do that."""

    exit_code = ExitCode.REFUSED
