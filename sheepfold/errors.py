"""The root of every error of this product, and what a command's exit code means.

::

    SheepfoldError
    ├── CommandFailed         a command's request cannot be carried out
    │   └── WrongArgument     ... because of what was typed
    ├── BadSecretFile         a file that should hold a password holds none
    ├── PublishedSecret       a secret that everybody knows, where others than this machine can connect
    ├── DiskFull              no space is left where a file goes
    ├── TooLarge              a file is larger than it may be
    ├── LargeFile             a file takes long to read, and was given to a process for small ones
    ├── NotAPicture           a file cannot be decoded as a picture
    ├── ProtocolError         sheepfold.protocol.errors: the render server's wire
    ├── ContractError         sheepfold.contract.errors: messages between coordinator and worker
    ├── NodeError             render_tasks.errors
    ├── LabError              lab.errors
    └── ...                   coordinator.<sub-package>.errors, of each sub-package its own

Each package keeps its errors in its ``errors.py``, split by whose fault it is. An error carries what it knows as
attributes, and never a password or token. ``sheepfold.cli.main`` prints the message of whatever arrives there and ends
with its exit code.
"""

from __future__ import annotations

import enum
import inspect
from pathlib import Path
from typing import ClassVar


class ExitCode(enum.IntEnum):
    """How a ``sheepfold`` command ends, for scripts and service managers."""

    #: Done, or stopped on request.
    DONE = 0
    #: Something failed; trying again may help.
    FAILED = 1
    #: A setting or an argument is wrong: nothing was begun.
    WRONG_SETTING = 2
    #: A refusal that waiting can't mend: by the render server, or by the coordinator for a worker or a command.
    REFUSED = 3


class SheepfoldError(Exception):
    """Something failed in sheepfold.

    Without a message, the first paragraph of the class's docstring is the message.
    """

    #: What a command ends with where this error reaches its end.
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str = "") -> None:
        super().__init__(message or default_message(type(self)))

    @property
    def operator_line(self) -> str:
        """The message as one line: what happened, and where known, why and what to do."""
        return " ".join(str(self).split())


def default_message(kind: type[SheepfoldError]) -> str:
    """The first paragraph of the docstring, on one line; the class's name where Python runs without docstrings."""
    first_paragraph = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return " ".join(first_paragraph.split()) or kind.__name__


class CommandFailed(SheepfoldError):
    """The command cannot be carried out."""


class WrongArgument(CommandFailed):
    """An argument of the command cannot be used."""

    exit_code = ExitCode.WRONG_SETTING


class BadSecretFile(SheepfoldError, ValueError):
    """A file that should hold a password holds none. The text says what to do and shows nothing of the file.

    A ValueError too: a settings class that reads such a file gets a validation error of it.
    """

    exit_code = ExitCode.WRONG_SETTING


class PublishedSecret(SheepfoldError):
    """A secret of the documentation protects something that other machines reach."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, setting: str, host: str) -> None:
        self.setting, self.host = setting, host
        super().__init__(
            f"{setting}: this secret stands in the documentation, and {host} is reached from other machines; set one "
            f"of your own, for example from `openssl rand -hex 24`, or listen on 127.0.0.1"
        )


class DiskFull(SheepfoldError):
    """The disk has no space left."""

    def __init__(self, folder: Path, why: str = "") -> None:
        self.folder = folder
        super().__init__(f"no space left on the disk that holds {folder}" + (f": {why}" if why else ""))


class TooLarge(SheepfoldError):
    """A file is larger than it may be."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"more than {limit_bytes} bytes")


class LargeFile(SheepfoldError):
    """The file takes long to read: it belongs into a process of its own (:mod:`sheepfold.limited.pool`)."""


class NotAPicture(SheepfoldError):
    """The file is no whole picture that could be handed on."""

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())[:300]
        super().__init__(f"not a picture: {self.reason}")
