"""Public keys: what signs an account's clients in without its password. Despite the protocol's name they are secrets.

A key is made from the password in the same step that checks it: scrypt gives 64 bytes, of which the first half is the
password's hash in the store and the second half, which is nowhere, becomes the key. So the same password gives the
same key after a restart, another password another one, and neither half tells the other. The store holds the key's
SHA-256, which is enough for a value that no one can guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

#: 16 MiB and about 40 ms each (OWASP's third choice for scrypt doubles it; this is a server on a LAN).
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 64, "maxmem": 64 * 1024 * 1024}
_MAX_PASSWORD = 1024
_HASH_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What a password and a salt give."""

    password_hash: bytes
    public_key: str = field(repr=False)

    @property
    def key_hash(self) -> bytes:
        """What the store keeps of the key."""
        return hash_of_key(self.public_key)


def derive(password: str, salt: bytes) -> Derived:
    """Hash and key of a password; slow on purpose."""
    both = hashlib.scrypt(password.encode("utf-8", "surrogatepass")[:_MAX_PASSWORD], salt=salt, **_SCRYPT)
    key = hmac.digest(both[_HASH_BYTES:], b"sheepfold public key", "sha256")
    text = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
    return Derived(password_hash=both[:_HASH_BYTES], public_key=text)


def hash_of_key(public_key: str) -> bytes:
    """SHA-256 of a key, or of whatever a client sends in its place."""
    return hashlib.sha256(public_key.encode("utf-8", "surrogatepass")).digest()
