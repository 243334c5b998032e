"""Seals outside of the database: as JSON, signed with Ed25519 where there is a key."""

import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...subsystems.storage.driver import Seal
from .exits import ExitCode, Stop

PREFIX = b"aoskernel seal"
NOT_HERE = 'signing needs the extra "signing": pip install "aoskernel[signing]"'


class Exported(BaseModel):
    """A seal that was exported; `at` in microseconds since 1970, the rest in hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seal: int
    at: int
    hash: str
    signature: str | None = None

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is of."""
        return PREFIX + struct.pack(">qq", self.seal, self.at) + bytes.fromhex(self.hash)


def written(seal: Seal, key: Path | None) -> dict[str, Any]:
    """As it goes out. Raises Stop."""
    plain = Exported(seal=seal.number, at=seal.at, hash=seal.hash.hex())
    if key is None:
        return plain.model_dump(exclude_none=True)
    signature = _private(key).sign(plain.signed)
    return {**plain.model_dump(exclude_none=True), "signature": signature.hex()}


def read(file: Path, public_key: Path | None) -> Exported:
    """What was exported; by whom, where that is asked. Raises Stop."""
    try:
        exported = Exported.model_validate_json(_bytes(file))
        bytes.fromhex(exported.hash)
    except (ValidationError, ValueError) as error:
        raise Stop(f"{file} is no exported seal: {error}", ExitCode.USAGE, "no_export") from error
    if public_key is not None:
        _check(exported, file, public_key)
    return exported


def _check(exported: Exported, file: Path, public_key: Path) -> None:
    _installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _loaded(load_pem_public_key, public_key, Ed25519PublicKey)
    try:
        key.verify(bytes.fromhex(exported.signature or ""), exported.signed)
    except (InvalidSignature, ValueError) as error:
        raise Stop(
            f"{file} was not signed with the key of {public_key}", ExitCode.FAILED, "not_signed"
        ) from error


def _private(file: Path) -> Any:
    _installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _loaded(lambda pem: load_pem_private_key(pem, None), file, Ed25519PrivateKey)


def _loaded(load: Any, file: Path, kind: type[Any]) -> Any:
    try:
        key = load(_bytes(file))
    except (ValueError, TypeError) as error:
        raise Stop(f"{file} is no key in PEM: {error}", ExitCode.USAGE, "no_key") from error
    if not isinstance(key, kind):
        raise Stop(f"{file} is no Ed25519 key", ExitCode.USAGE, "no_key")
    return key


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Stop(f"{file}: {error.strerror}", ExitCode.USAGE, "no_file") from error


def _installed() -> None:
    if find_spec("cryptography") is None:
        raise Stop(NOT_HERE, ExitCode.CONFIG, "no_signing")
