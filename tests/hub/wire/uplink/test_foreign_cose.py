"""Somebody else's COSE (pycose) reads what a hub seals, and writes what a hub obeys: RFC 9052, not our reading."""

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

pycose = pytest.importorskip("pycose")

from pycose.algorithms import Es256  # noqa: E402
from pycose.headers import KID, Algorithm, ContentType  # noqa: E402
from pycose.keys import EC2Key  # noqa: E402
from pycose.messages import Sign1Message  # noqa: E402

from hub.core.control.authority import Accepted, Authority  # noqa: E402
from hub.wire.keys.operators import Operator, Operators  # noqa: E402
from hub.wire.uplink.envelope import FileSigner, open_envelope, seal  # noqa: E402
from tests.harness.operator import dumps  # noqa: E402

KEY = ec.generate_private_key(ec.SECP256R1())
T = 1_790_000_000


def foreign_key() -> Any:
    numbers = KEY.private_numbers()
    x, y = (n.to_bytes(32, "big") for n in (numbers.public_numbers.x, numbers.public_numbers.y))
    return EC2Key(crv="P_256", x=x, y=y, d=numbers.private_value.to_bytes(32, "big"))


def test_what_a_hub_seals_is_a_cose_sign1_to_others() -> None:
    message = seal(FileSigner(KEY, b"kid-of-8"), "MTR-1", 7, "events", 3, 60, b"payload", {-65538: "deflate"})
    # pycose 1.1 wants lists and maps where cbor2 6 gives frozen ones; the bytes are read by cbor2 all the same.
    protected, _, payload, signature = cbor2.loads(message).value
    read = Sign1Message.from_cose_obj([protected, {}, payload, signature], True)
    read.key = foreign_key()
    assert read.verify_signature() and read.payload == b"payload"
    assert read.phdr[KID] == b"kid-of-8" and read.phdr[-65537] == ["MTR-1", 7, "events", 3]
    assert open_envelope(message, lambda _kid: KEY.public_key()).number == 3


def test_what_others_sign_is_obeyed() -> None:
    claims = {1: "grid", 3: "MTR-1", 4: T + 60, 6: T, 7: b"0123456789abcdef", "op": "limit", "ctr": 9,
              "args": {"watts": 1500, "duration": 60}}  # fmt: skip
    message = Sign1Message(phdr={Algorithm: Es256, ContentType: 61, KID: b"grid"}, payload=dumps(claims))
    message.key = foreign_key()
    operators = Operators(grid=Operator("grid", KEY.public_key(), frozenset({"limit"}), "Grid", None))
    authority = Authority("MTR-1", (), operators, {}.get, lambda cti: False)
    assert isinstance(authority.judge(message.encode(), T), Accepted)
