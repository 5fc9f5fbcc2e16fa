"""The project's signing key: Ed25519, made once, private half for its owner only, public half beside it.

A key is named by the sha256 of its public half (SubjectPublicKeyInfo, DER), which is what people compare.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # re-exported silently

from tasks.errors import StoreError, UsageError

PRIVATE_NAME: Final = "signing.pem"
PUBLIC_NAME: Final = "signing.pub"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs the records of one project."""

    signer: CryptoSigner = field(repr=False)
    public: SSlibKey

    @classmethod
    def of(cls, folder: Path) -> SigningKey:
        """The key in `folder`, made there if there is none. StoreError where it cannot be written or is not private."""
        path = folder / PRIVATE_NAME
        try:
            if not path.exists():
                _make(folder)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise StoreError(f"others can read {str(path)!r}", hint=f"chmod 600 {path}")
            private = load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise StoreError(
                f"the signing key {str(path)!r} cannot be used: {error.strerror}", hint="it must be yours to read"
            ) from error
        except ValueError as error:
            raise StoreError(f"{str(path)!r} is no private key", hint="restore it, or move it away") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise StoreError(f"{str(path)!r} is no Ed25519 key", hint="restore it, or move it away")
        public = _named(private.public_key())
        return cls(CryptoSigner(private, public), public)


def load_public_key(path: Path) -> SSlibKey:
    """The public key in a PEM file. UsageError where there is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"the public key {str(path)!r} cannot be read: {error.strerror}",
            hint="give the signing project's .spurline/keys/signing.pub with --key",
        ) from None
    except ValueError:
        raise UsageError(f"{str(path)!r} holds no public key in PEM form", hint="give a signing.pub") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{str(path)!r} is no Ed25519 key", hint="give a signing.pub that Spurline made")
    return _named(key)


def _named(key: Ed25519PublicKey) -> SSlibKey:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(key, keyid=hashlib.sha256(der).hexdigest())


def _make(folder: Path) -> None:
    """Make a key pair; where another process does the same, the first one's stays."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if _put(folder / PRIVATE_NAME, pem, 0o600):
        (folder / PUBLIC_NAME).unlink(missing_ok=True)
        _put(folder / PUBLIC_NAME, public, 0o644)


def _put(path: Path, content: bytes, mode: int) -> bool:
    """Make the file, whole, unless there is one; whether it was made."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True
