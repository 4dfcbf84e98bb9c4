"""Why nobody gets a certificate here.

::

    CertificateError
    ├── AuthorityUnusable   what the state folder holds of the farm's authority
    ├── BadInvitation       the code is wrong, used or too old
    └── TooManyInvitations  so many wait to be used that no more are made
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class CertificateError(SheepfoldError):
    """The farm's certificates cannot be used as asked."""


class AuthorityUnusable(CertificateError):
    """What is kept of the farm's authority cannot be used."""

    exit_code = ExitCode.WRONG_SETTING


class BadInvitation(CertificateError):
    """This invitation is wrong, used already or too old: ask for another one with `sheepfold node invite`."""


class TooManyInvitations(CertificateError):
    """Too many invitations wait to be used."""

    def __init__(self, most: int, minutes: int) -> None:
        self.most = most
        super().__init__(f"{most} invitations are open, and no more are made: each ends after {minutes} minutes")
