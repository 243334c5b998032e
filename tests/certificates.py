"""Certificates that are their own authority, made by the command openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest


def self_signed(folder: Path, name: str, *hosts: str) -> tuple[Path, Path]:
    """A certificate for these hosts, or for 127.0.0.1, and its key. Skips without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl")
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    names = ",".join(f"DNS:{host}" for host in hosts) or "IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key
