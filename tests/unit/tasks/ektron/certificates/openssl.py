"""OpenSSL as an independent check: it reads files that esync writes, and writes files that esync reads."""

import shutil
import subprocess
from pathlib import Path

from tests.conftest import absent

__all__ = ["LEGACY", "modulus", "openssl"]

LEGACY = ("-provider", "legacy", "-provider", "default")  #: for RC4 and RC2


def openssl(*args: str, stdin: bytes = b"") -> bytes:
    """The output of the program. When it fails, the test fails with its error output."""
    program = shutil.which("openssl")
    if program is None:
        absent("no openssl on PATH")
    done = subprocess.run([program, *args], input=stdin, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def modulus(*args: str) -> int:
    """The modulus of a key or certificate, as the program prints it."""
    printed = openssl(*args, "-noout", "-modulus").decode()
    return int(printed.strip().removeprefix("Modulus="), 16)


def self_signed(folder: Path, *, bits: int = 1024, digest: str = "md5", name: str = "a") -> tuple[Path, Path]:
    """A key and a certificate with the profile of the product, CN=ektron, made by the program."""
    key, cer = folder / f"{name}.pem", folder / f"{name}.cer"
    new = ("req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-keyout", str(key), f"-{digest}", "-subj", "/CN=ektron")
    openssl(*new, "-days", "30", "-outform", "DER", "-out", str(cer))
    return key, cer
