"""What can be wrong with a certificate, a key, or whoever shows them."""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError


class BadCertificate(SheepfoldError):
    """A certificate, a key or a request for one cannot be used."""

    exit_code = ExitCode.WRONG_SETTING


class NotThisFarm(SheepfoldError):
    """Whoever answers at an address is not of the farm that was expected; it was told no secret."""

    exit_code = ExitCode.REFUSED

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        super().__init__(
            f"{address} does not prove that it is this farm's coordinator ({why}), and was told no secret: "
            "compare address and fingerprint with what `sheepfold node invite` prints"
        )


class PlainRefused(SheepfoldError):
    """A secret would cross the network readable."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, setting: str, url: str) -> None:
        super().__init__(
            f"{setting}: {url} is plain HTTP to another machine, and everybody on the way could read what is "
            "secret; use https, a worker the line of `sheepfold node invite`, or set SHEEPFOLD_ALLOW_PLAIN=1"
        )
