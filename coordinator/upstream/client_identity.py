"""What a sign-in says of us, and what a refused one means to the operator. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sheepfold.protocol.dialects import DIALECTS, SPECIFICATION, Dialect
from sheepfold.protocol.session_messages import Credentials, Hardware, SignInRequest
from sheepfold.protocol.status import SignInStatus, explain


@dataclass(frozen=True, kw_only=True)
class ClientIdentity:
    """What every sign-in of a session says, whichever PC it describes."""

    credentials: Credentials
    #: What the sign-in is written in.
    dialect: Dialect = SPECIFICATION
    #: Client's version; empty: that of the dialect's year.
    version: str = ""
    extras: str | None = None
    #: 32 hex digits, the same for as long as the session's key is.
    hardware_id: str = ""

    def request(self, hardware: Hardware, hostname: str, public_key: str | None) -> SignInRequest:
        """The sign-in; with ``public_key`` in the password's place where there is one."""
        credentials = replace(self.credentials, password=public_key) if public_key else self.credentials
        return SignInRequest(
            credentials=credentials,
            version=self.version or self.dialect.version,
            hardware=hardware,
            extras=self.extras,
            hostname=hostname,
            hardware_id=self.hardware_id,
        )

    def refusal(self, status: int) -> str:
        """One line for the operator: what the server said, and what may help."""
        line = f"signing in was refused: {explain(status)}"
        if status != SignInStatus.CLIENT_TOO_OLD:
            return line
        later = min((row.year for row in DIALECTS if row.year > self.dialect.year), default=None)
        if later is None:
            return (
                f"{line}; SHEEPFOLD_CLIENT_VERSION may name a newer client than {self.version or self.dialect.version}"
            )
        return f"{line}; we spoke {self.dialect.year}, try SHEEPFOLD_DIALECT={later}"
