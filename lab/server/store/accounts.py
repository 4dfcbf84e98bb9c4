"""Accounts: who may sign in, with a password or a public key.

Public keys sign an account's clients in without its password. Despite the protocol's name they are secrets.

A key is made from the password in the same step that checks it: scrypt gives 64 bytes, of which the first half is the
password's hash in the store and the second half, which is nowhere, becomes the key. So the same password gives the
same key after a restart, another password another one, and neither half tells the other. The store holds the key's
SHA-256, which is enough for a value that no one can guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from .database import Store, accounts

#: A password that was right stays known for this long, so that not every request costs an scrypt.
TRUST_S = 300
_MAX_TRUSTED = 256
#: 16 MiB and about 40 ms each (OWASP's third choice for scrypt doubles it; this is a server on a LAN).
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 64, "maxmem": 64 * 1024 * 1024}
_MAX_PASSWORD = 1024
_HASH_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Account:
    """Somebody who may sign in, and what they may do."""

    login: str
    may_render: bool
    #: May submit projects and manage the server.
    is_owner: bool


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    """An account whose login and secret were right."""

    account: Account
    #: Signs in as the password does, for rendering alone.
    public_key: str = field(repr=False)


class Accounts:
    """Passwords, and what each account may do. May be asked from any thread."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        #: Counts changes of accounts: what was proven before one is not trusted after it.
        self._changes = 0
        self._key = secrets.token_bytes(32)
        self._trusted: dict[bytes, tuple[float, SignedIn]] = {}
        self._nothing = Derived(password_hash=b"\0" * 32, public_key=secrets.token_urlsafe())
        self._dummy_salt = secrets.token_bytes(16)
        with store.transaction() as db:
            rows = db.execute(select(accounts)).mappings().all()
        self._accounts = {row["login"]: _account(**row) for row in rows}
        self._key_hashes: dict[str, bytes | None] = {row["login"]: row["key_hash"] for row in rows}

    def put(self, login: str, password: str | None, *, may_render: bool = True, is_owner: bool = False) -> None:
        """Create an account or change it; without a password the old one stays. Sessions go on.

        Another password ends the old public key, the same one keeps it. Raises ``KeyError`` for a new account without
        a password.
        """
        if password is None and login not in self._accounts:
            raise KeyError(login)
        values: dict[str, Any] = {"login": login, "may_render": may_render, "is_owner": is_owner}
        changed = None if password is None or self._prove(login, password) else secrets.token_bytes(16)
        with self._store.transaction() as db:
            if password is None or changed is None:
                db.execute(update(accounts).where(accounts.c.login == login).values(values))
            else:
                derived = derive(password, changed)
                values |= {"salt": changed, "password_hash": derived.password_hash, "key_hash": derived.key_hash}
                db.execute(upsert(accounts).values(values).on_conflict_do_update(index_elements=["login"], set_=values))
                self._key_hashes[login] = derived.key_hash
        with self._lock:
            self._accounts[login] = _account(**values)
            self._changes += 1
            self._trusted.clear()

    def get(self, login: str) -> Account | None:
        """The account, if there is one."""
        return self._accounts.get(login)

    def check(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right; a public key is none. As slow for an unknown login."""
        proven = self._prove(login, password)
        return self.get(login) if proven else None

    def sign_in(self, login: str, secret: str) -> SignedIn | None:
        """The account, if ``secret`` is its password or its public key."""
        return self.recall(login, secret) or self._prove(login, secret)

    def recall(self, login: str, secret: str) -> SignedIn | None:
        """The account, where ``secret`` is its public key or was proven lately; ``None`` says nothing. Quick."""
        account = self.get(login)
        expected = self._key_hashes.get(login) or self._nothing.key_hash
        if hmac.compare_digest(hash_of_key(secret), expected) and account is not None:
            return SignedIn(account=account, public_key=secret)
        return self._proven_lately(self._seal(login, secret), login)

    def recall_password(self, login: str, password: str) -> Account | None:
        """As :meth:`recall`, but a public key is none."""
        proven = self._proven_lately(self._seal(login, password), login)
        return proven.account if proven else None

    def _seal(self, login: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{len(login)}:{login}:{password}".encode("utf-8", "surrogatepass"), "sha256")

    def _proven_lately(self, seal: bytes, login: str) -> SignedIn | None:
        with self._lock:
            until, known = self._trusted.get(seal, (0.0, None))
        return replace(known, account=self._accounts[login]) if known is not None and until > self._clock() else None

    def _prove(self, login: str, password: str) -> SignedIn | None:
        seal = self._seal(login, password)
        if known := self._proven_lately(seal, login):
            return known
        changes = self._changes
        with self._store.transaction() as db:
            row = db.execute(select(accounts).where(accounts.c.login == login)).mappings().first()
        derived = derive(password, row["salt"] if row else self._dummy_salt)
        expected = row["password_hash"] if row else self._nothing.password_hash
        if not hmac.compare_digest(derived.password_hash, expected) or row is None:
            return None
        if row["key_hash"] != derived.key_hash:  # an account from before there were keys
            self._keep_key(login, derived)
        proven = SignedIn(account=_account(**row), public_key=derived.public_key)
        with self._lock:
            if len(self._trusted) >= _MAX_TRUSTED:
                self._trusted.clear()
            if changes == self._changes:
                self._trusted[seal] = (self._clock() + TRUST_S, proven)
        return proven

    def _keep_key(self, login: str, derived: Derived) -> None:
        is_still_right = (accounts.c.login == login) & (accounts.c.password_hash == derived.password_hash)
        with self._store.transaction() as db:
            if db.execute(update(accounts).where(is_still_right).values(key_hash=derived.key_hash)).rowcount:
                self._key_hashes[login] = derived.key_hash


def _account(*, login: str, may_render: bool, is_owner: bool, **_secrets: object) -> Account:
    return Account(login=login, may_render=may_render, is_owner=is_owner)


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
