"""An operator written from the design document alone (part 3.3): signs commands by hand, none of our code."""

import os
import time
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def dumps(value: Any) -> bytes:
    """Deterministic encoding (RFC 8949, 4.2.1). cbor2's canonical order (RFC 7049) is the same for the keys used
    here."""
    return cbor2.dumps(value, canonical=True)


class Operator:
    """One operator with a P-256 key; `roles` for operators.toml."""

    def __init__(self, kid: str = "grid", *roles: str) -> None:
        self.kid = kid
        self.roles = roles or ("limit", "price", "read", "field", "admin")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ctr = int(time.time())

    @property
    def toml(self) -> str:
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        roles = ", ".join(f'"{role}"' for role in self.roles)
        return (
            f'[operator.{self.kid}]\npublic_key = """\n{pem.decode()}"""\nroles = [{roles}]\nname = "Test {self.kid}"\n'
        )

    def command(self, op: str, args: dict[str, Any] | None = None, *, aud: str = "MTR-1", **claims: Any) -> bytes:
        """A signed command; keyword arguments replace claims: exp, nbf, iat, cti, ctr."""
        self.ctr += 1
        now = int(time.time())
        body: dict[Any, Any] = {
            1: self.kid,
            3: aud,
            4: claims.get("exp", now + 300),
            6: claims.get("iat", now),
            7: claims.get("cti", os.urandom(16)),
            "ctr": claims.get("ctr", self.ctr),
            "op": op,
            "args": args or {},
        }
        return self.sign({1: -7, 3: 61, 4: self.kid.encode()}, dumps(body))

    def approval(self, digest: bytes) -> bytes:
        """This admin's word for a list of operators: a COSE_Sign1 over its SHA-256."""
        return self.sign({1: -7, 4: self.kid.encode()}, digest)

    def sign(self, header: dict[Any, Any], payload: bytes) -> bytes:
        """A COSE_Sign1 by hand (RFC 9052, 4.4)."""
        protected = dumps(header)
        der = self.key.sign(dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def cti_of(command: bytes) -> bytes:
    """The command's id."""
    cti: bytes = cbor2.loads(cbor2.loads(command).value[2])[7]
    return cti


def write_operators(file: Path, *operators: Operator) -> Path:
    """An operators.toml."""
    file.write_text("\n".join(operator.toml for operator in operators))
    return file
