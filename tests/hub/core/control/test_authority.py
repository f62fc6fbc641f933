"""P5: a table of hostile commands, each with the reason it is refused for; and what may pass."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from hub.core.control.authority import REASONS, Accepted, AnsweredBefore, Authority, CommandRefused
from hub.wire.keys.operators import BadOperators, Operator, Operators, parse_operators, refusal_of_list
from hub.wire.uplink.command import MAX_COMMAND_BYTES, ROLES, BadCommand, Command, parse_command, sign_command
from hub.wire.uplink.envelope import FileSigner
from hub.wire.uplink.receipt import Receipt, broken_links, decode_receipt, encode_receipt
from tests.harness.operator import dumps

T = 1_790_000_000
LIMITER, ADMIN, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ED = ed25519.Ed25519PrivateKey.generate()
OPERATORS = Operators(
    {
        "limiter": Operator("limiter", LIMITER.public_key(), frozenset({"limit"}), "Grid control", None),
        "admin": Operator("admin", ADMIN.public_key(), frozenset({"admin"}), "Administration", T + 1000),
        "ed": Operator("ed", ED.public_key(), frozenset({"limit", "read"}), "Ed25519", None),
    }
)
ANSWERED = b"answered--------"
GOOD = Command(
    "limiter", "MTR-1", T + 60, None, T - 1, b"0123456789abcdef", 8, "limit", {"watts": 1500, "duration": 60}
)


def authority() -> Authority:
    return Authority("MTR-1", ("north",), OPERATORS, {"limiter": 7}.get, lambda cti: cti == ANSWERED)


def signed(command: Command = GOOD, key: Any = LIMITER, **changes: Any) -> bytes:
    return sign_command(FileSigner(key, b""), replace(command, **changes))


def resigned(change: Callable[[dict[Any, Any], dict[Any, Any]], None], key: Any = LIMITER) -> bytes:
    """The good command with its header and claims changed, signed properly: only the contents are hostile."""
    protected, _, payload, _ = cbor2.loads(signed()).value
    header, claims = cbor2.loads(protected), cbor2.loads(payload)
    change(header, claims)
    protected, payload = dumps(header), dumps(claims)
    signature = FileSigner(key, b"").sign(dumps(["Signature1", protected, b"", payload]))
    return dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def claims(**changes: Any) -> bytes:
    """`_6=...` sets claim 6, `op=...` the claim "op"; ... (Ellipsis) removes."""

    def change(_header: dict[Any, Any], body: dict[Any, Any]) -> None:
        for name, value in changes.items():
            key: Any = int(name[1:]) if name.startswith("_") else name
            if value is ...:
                body.pop(key)
            else:
                body[key] = value

    return resigned(change)


def header(**changes: Any) -> bytes:
    return resigned(lambda head, _claims: head.update({int(k[1:]): v for k, v in changes.items()}))


def raw(payload: bytes | None = None, protected: bytes | None = None, key: Any = LIMITER) -> bytes:
    """Signed properly over bytes that no honest encoder writes."""
    head, _, body, _ = cbor2.loads(signed()).value
    head = head if protected is None else protected
    body = body if payload is None else payload
    signature = FileSigner(key, b"").sign(dumps(["Signature1", head, b"", body]))
    return dumps(cbor2.CBORTag(18, [head, {}, body, signature]))


def shared_references(levels: int) -> bytes:
    """Nested arrays of references to one another: few bytes that stand for 2^levels (CBOR tags 28 and 29)."""
    item = b"\xd8\x1c\x81\x00"
    for level in range(levels):
        reference = b"\xd8\x1d" + (bytes((level,)) if level < 24 else bytes((0x18, level)))
        item = b"\xd8\x1c\x82" + item + reference
    return item


def claims_with(extra: bytes, count: int = 1) -> bytes:
    """The good claims, with so many more entries written by hand at the end of the map."""
    body = cbor2.loads(signed()).value[2]
    assert body[0] == 0xA8
    return bytes((0xA8 + count,)) + body[1:] + extra


ALG, TYPE, KID = b"\x01\x26", b"\x03\x18\x3d", b"\x04\x47limiter"
UNENCODABLE: list[tuple[str, bytes, str]] = [
    ("shared references in crit", raw(protected=b"\xa1\x02" + shared_references(40)), "malformed"),
    ("shared references in the header", raw(protected=b"\xa1\x05" + shared_references(40)), "malformed"),
    ("shared references in the claims", raw(payload=b"\xa1\x01" + shared_references(40)), "malformed"),
    ("a regular expression", raw(payload=b"\xd8\x23\x78\x40" + b"(?i)" + b"a" * 60), "malformed"),
    ("a regular expression in the header", raw(protected=b"\xa1\x05\xd8\x23\x61a"), "malformed"),
    ("a date as exp", raw(payload=b"\xa1\x04\xc1\x1a\x6a\x00\x00\x00"), "malformed"),
    ("a bignum of 5,000 digits in crit", raw(protected=b"\xa1\x02\x81\xc2\x59\x08\x00" + b"\xff" * 2048), "malformed"),
    ("kid twice", raw(protected=b"\xa4" + ALG + TYPE + KID + b"\x04\x45admin"), "malformed"),
    ("kid twice, the other first", raw(protected=b"\xa4" + ALG + TYPE + b"\x04\x45admin" + KID), "malformed"),
    ("labels not in order", raw(protected=b"\xa3" + TYPE + ALG + KID), "malformed"),
    ("a claim twice", raw(payload=claims_with(b"\x64args\xa0")), "malformed"),
    ("alg -7.0", raw(protected=b"\xa3\x01\xf9\xc7\x00" + TYPE + KID), "malformed"),
    ("alg in two bytes", raw(protected=b"\xa3\x01\x38\x06" + TYPE + KID), "malformed"),
    ("content type 61.0", raw(protected=b"\xa3" + ALG + b"\x03\xf9\x53\xa0" + KID), "malformed"),
    ("a header of indefinite length", raw(protected=b"\xbf" + ALG + TYPE + KID + b"\xff"), "malformed"),
    ("claims of indefinite length", raw(payload=b"\xbf\x01\x61a\xff"), "malformed"),
    ("self-described CBOR", b"\xd9\xd9\xf7" + signed(), "malformed"),
    ("tag 18 in a longer form", b"\xd8\x12" + signed()[1:], "malformed"),
    ("tag 18 twice", b"\xd2" + signed(), "malformed"),
    ("a kid that is a text", raw(protected=b"\xa3" + ALG + TYPE + b"\x04\x67limiter"), "malformed"),
    ("a key that is an array", raw(payload=b"\xa1\x81\x00\x00"), "malformed"),
    ("undefined", raw(payload=claims_with(b"\x65zebra\xf7")), "malformed"),
    ("a float that is longer than it need be", raw(payload=claims_with(b"\x65zebra\xfb" + bytes(8))), "malformed"),
    ("nine deep", raw(payload=claims_with(b"\x65zebra" + b"\x81" * 8 + b"\x00")), "malformed"),
    ("exp is a float", claims(_4=1.79e9 + 0.5), "malformed"),
    ("an unprotected header", b"\xd2\x84" + dumps(cbor2.loads(signed()).value[0]) + b"\xa1\x04\x41x" +
     b"".join(map(dumps, cbor2.loads(signed()).value[2:])), "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), [r[1:] for r in UNENCODABLE], ids=[r[0] for r in UNENCODABLE])
def test_what_is_not_the_contracts_cbor_is_refused_in_no_time(message: bytes, reason: str) -> None:
    tracemalloc.start()
    verdict = authority().judge(message, T)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(verdict, CommandRefused) and verdict.reason == reason, verdict
    assert len(verdict.text) < 300 and verdict.text.isprintable()
    assert peak < 40 * len(message) + 200_000


def parts(change: Callable[[list[Any]], Any]) -> bytes:
    return dumps(cbor2.CBORTag(18, change(list(cbor2.loads(signed()).value))))


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


HOSTILE: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "malformed"),
    ("zeros", bytes(100), "malformed"),
    ("random bytes", bytes(range(256)), "malformed"),
    ("truncated by one", signed()[:-1], "malformed"),
    ("half of it", signed()[: len(signed()) // 2], "malformed"),
    ("twice in one message", signed() * 2, "malformed"),
    ("trailing byte", signed() + b"\x00", "malformed"),
    ("huge", signed(args={"x": "y" * MAX_COMMAND_BYTES}), "malformed"),
    ("deep CBOR", nested(15_000), "malformed"),
    ("deep CBOR as payload", raw(payload=nested(15_000)), "malformed"),
    ("endless array", b"\x9f" * 10_000, "malformed"),
    ("a string that claims gigabytes", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "malformed"),
    ("untagged", dumps(cbor2.loads(signed()).value), "malformed"),
    ("COSE_Mac0's tag", dumps(cbor2.CBORTag(17, cbor2.loads(signed()).value)), "malformed"),
    ("COSE_Sign's tag", dumps(cbor2.CBORTag(98, cbor2.loads(signed()).value)), "malformed"),
    ("three elements", parts(lambda p: p[:3]), "malformed"),
    ("five elements", parts(lambda p: [*p, b""]), "malformed"),
    ("kid in the unprotected header", parts(lambda p: [p[0], {4: b"admin"}, p[2], p[3]]), "malformed"),
    ("no payload", parts(lambda p: [p[0], p[1], None, p[3]]), "malformed"),
    ("payload is an array", raw(payload=dumps([1])), "malformed"),
    ("header is an array", parts(lambda p: [dumps([1]), *p[1:]]), "malformed"),
    ("empty header", parts(lambda p: [b"", *p[1:]]), "malformed"),
    ("an unknown critical header", header(_2=["limit-lock"]), "malformed"),
    ("an empty crit", header(_2=[]), "malformed"),
    ("another content type", header(_3=60), "malformed"),
    ("kid is a number", header(_4=1), "malformed"),
    ("kid is not UTF-8", header(_4=b"\xff\xfe"), "malformed"),
    ("kid is endless", header(_4=b"k" * 65), "malformed"),
    ("no cti", claims(_7=...), "malformed"),
    ("short cti", claims(_7=b"short"), "malformed"),
    ("cti is a text", claims(_7="0123456789abcdef"), "malformed"),
    ("no iss", claims(_1=...), "malformed"),
    ("iss names another operator", claims(_1="admin"), "malformed"),
    ("no aud", claims(_3=...), "malformed"),
    ("aud is a list", claims(_3=["MTR-1"]), "malformed"),
    ("no exp", claims(_4=...), "malformed"),
    ("exp is not a number", claims(_4="tomorrow"), "malformed"),
    ("exp is infinite", claims(_4=float("inf")), "malformed"),
    ("exp is not-a-number", claims(_4=float("nan")), "malformed"),
    ("exp is true", claims(_4=True), "malformed"),
    ("exp is negative", claims(_4=-1), "malformed"),
    ("exp is a bignum", claims(_4=2**80), "malformed"),
    ("no iat", claims(_6=...), "malformed"),
    ("nbf is a text", claims(_5="now"), "malformed"),
    ("no ctr", claims(ctr=...), "malformed"),
    ("negative ctr", claims(ctr=-1), "malformed"),
    ("ctr is a bignum", claims(ctr=2**64), "malformed"),
    ("ctr is true", claims(ctr=True), "malformed"),
    ("ctr is a float", claims(ctr=8.0), "malformed"),
    ("no op", claims(op=...), "malformed"),
    ("an op nobody knows", claims(op="explode"), "malformed"),
    ("op is bytes", claims(op=b"limit"), "malformed"),
    ("no args", claims(args=...), "malformed"),
    ("args is a list", claims(args=[1]), "malformed"),
    ("args named by numbers", claims(args={1: 2}), "malformed"),
    ("an unknown operator", signed(kid="nobody"), "unknown-kid"),
    ("a known name in other letters", signed(kid="Limiter"), "unknown-kid"),
    ("a stranger's key", signed(key=STRANGER), "bad-signature"),
    ("another operator's key", signed(key=ADMIN), "bad-signature"),
    ("EdDSA under a P-256 kid", signed(key=ED), "bad-signature"),
    ("P-256 under an EdDSA kid", signed(kid="ed"), "bad-signature"),
    ("alg none", header(_1=None), "bad-signature"),
    ("alg HS256", header(_1=5), "bad-signature"),
    ("alg EdDSA, signed with P-256", header(_1=-8), "bad-signature"),
    ("no signature", parts(lambda p: [*p[:3], b""]), "bad-signature"),
    ("a signature of zeros", parts(lambda p: [*p[:3], bytes(64)]), "bad-signature"),
    ("a signature of ones", parts(lambda p: [*p[:3], b"\xff" * 64]), "bad-signature"),
    ("its signature twice", parts(lambda p: [*p[:3], p[3] * 2]), "bad-signature"),
    ("args changed after signing", parts(lambda p: [*p[:2], p[2].replace(b"watts", b"wotts"), p[3]]), "bad-signature"),
    ("for another hub", signed(aud="MTR-2"), "wrong-audience"),
    ("for a group that is not ours", signed(aud="group:south"), "wrong-audience"),
    ("for a group's bare name", signed(aud="north"), "wrong-audience"),
    ("for nobody", signed(aud=""), "wrong-audience"),
    ("without the role", signed(op="trust"), "wrong-role"),
    ("an admin is no limiter", signed(kid="admin", key=ADMIN), "wrong-role"),
    ("expired", signed(exp=T - 1), "expired"),
    ("expires now", signed(exp=T), "expired"),
    ("not yet", signed(nbf=T + 5), "not-yet-valid"),
    ("from the future", signed(iat=T + 301), "from-the-future"),
    ("replayed", signed(ctr=7), "replayed"),
    ("an older one", signed(ctr=3), "replayed"),
    ("ctr zero", signed(ctr=0), "replayed"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_command_is_refused_for_its_reason(message: bytes, reason: str) -> None:
    verdict = authority().judge(message, T)
    assert isinstance(verdict, CommandRefused)
    assert verdict.reason == reason, verdict.text
    assert verdict.reason in REASONS and verdict.text
    assert not verdict.kid or reason not in ("unknown-kid", "bad-signature")


def test_the_table_is_large_enough_and_shows_every_reason() -> None:
    assert len(HOSTILE) >= 60
    assert {reason for _, _, reason in HOSTILE} == set(REASONS) - {"no-clock", "operator-expired", "poison"}


@pytest.mark.parametrize(
    "message",
    [
        signed(), signed(aud="all"), signed(aud="group:north"), signed(iat=T + 299), signed(nbf=T),
        signed(ctr=2**63 - 1),
        signed(kid="ed", key=ED, ctr=0), signed(kid="admin", key=ADMIN, op="trust"),
    ],
)  # fmt: skip
def test_a_good_command_passes(message: bytes) -> None:
    assert isinstance(authority().judge(message, T), Accepted)


def test_the_checks_come_in_the_contracts_order() -> None:
    """A command that is wrong in every way is refused for the first of them, then for the next once that is mended."""
    command = replace(GOOD, kid="nobody", aud="MTR-2", op="trust", exp=T - 1, iat=T + 400, cti=ANSWERED, ctr=1)
    seen = []
    for mend in (
        {"kid": "limiter"},
        {},
        {"cti": GOOD.cti},
        {"aud": "MTR-1"},
        {"op": "limit"},
        {"exp": T + 60},
        {"iat": T},
    ):
        verdict = authority().judge(signed(command, STRANGER if len(seen) < 2 else LIMITER), T)
        seen.append(verdict.reason if isinstance(verdict, CommandRefused) else type(verdict).__name__)
        command = replace(command, **mend)
    verdict = authority().judge(signed(command), T)
    assert isinstance(verdict, CommandRefused)
    assert [*seen, verdict.reason] == [
        "unknown-kid", "bad-signature", "AnsweredBefore", "wrong-audience", "wrong-role", "expired", "from-the-future",
        "replayed",
    ]  # fmt: skip


def test_what_was_answered_is_answered_again() -> None:
    assert isinstance(authority().judge(signed(cti=ANSWERED, ctr=1), T), AnsweredBefore)


def test_without_a_clock_nothing_is_obeyed() -> None:
    verdict = authority().judge(signed(), None)
    assert isinstance(verdict, CommandRefused) and verdict.reason == "no-clock"


def test_an_operator_whose_time_is_over_commands_nothing() -> None:
    verdict = authority().judge(signed(kid="admin", key=ADMIN, op="trust", exp=T + 5000), T + 1001)
    assert isinstance(verdict, CommandRefused) and verdict.reason == "operator-expired"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert isinstance(authority().judge(data, T), CommandRefused)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_is_never_obeyed(at: int, by: int) -> None:
    data = bytearray(signed())
    data[at % len(data)] ^= by
    assert not isinstance(authority().judge(bytes(data), T), Accepted)


def test_a_command_survives_its_journey() -> None:
    assert parse_command(signed(nbf=T)) == replace(GOOD, nbf=T)
    with pytest.raises(BadCommand) as caught:
        parse_command(claims(op="explode"))
    assert caught.value.cti == GOOD.cti, "a receipt can name what it refuses"
    assert set(ROLES.values()) == {"limit", "price", "read", "field", "admin"}


def pem(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(encoding, form).decode())


def entry(kid: str, key: Any, roles: str, more: str = "") -> str:
    return f'[operator.{kid}]\npublic_key = """{pem(key)}"""\nroles = {roles}\nname = "N"\n{more}\n'


def test_operators_are_read_from_toml() -> None:
    text = entry("a", LIMITER, '["limit", "read"]') + entry("b", ED, '["admin"]', "not_after = 2030-01-01T00:00:00Z")
    operators = parse_operators(text)
    assert operators["a"].roles == {"limit", "read"} and operators["a"].not_after is None
    assert operators["b"].not_after == 1893456000
    assert parse_operators("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[operator", "not TOML"),
        (entry("a", LIMITER, '["limit"]', "priority = " + "9" * 5000), "not TOML"),
        ("threshold = " + "[" * 5000, "not TOML"),
        ("[operators.a]", "[operator.KID]"),
        (entry("a", LIMITER, '["king"]'), "operator.a.roles"),
        (entry("a", LIMITER, "[]"), "operator.a.roles"),
        (entry("a", LIMITER, '["limit"]', "colour = 1"), "operator.a"),
        (entry("a", LIMITER, '["limit"]', 'not_after = "soon"'), "operator.a.not_after"),
        ('[operator.a]\npublic_key = "x"\nroles = ["limit"]\nname = "N"', "operator.a.public_key"),
        (entry("a", ec.generate_private_key(ec.SECP384R1()), '["limit"]'), "operator.a.public_key"),
        ("".join(entry(f"k{n}", LIMITER, '["limit"]') for n in range(65)), "more than 64"),
    ],
)
def test_wrong_operators_are_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(BadOperators) as caught:
        parse_operators(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_nobody_is_locked_out() -> None:
    def admin(not_after: float | None) -> Operators:
        return Operators(admin=Operator("admin", ADMIN.public_key(), frozenset({"admin"}), "A", not_after))

    assert refusal_of_list(Operators(limiter=OPERATORS["limiter"]), T)
    assert refusal_of_list(admin(None), T) == "" and refusal_of_list(admin(T + 30 * 86400), T) == ""
    assert refusal_of_list(admin(T + 30 * 86400 - 1), T), "an admin whose time is nearly over could mend nothing"
    both = Operators({**admin(None), **OPERATORS})
    both.threshold = 2
    assert refusal_of_list(both, T), "as many have to remain as the list itself asks for"


def test_receipts_are_chained() -> None:
    from hub.wire.uplink.receipt import chain_hash

    chain, prev = [], bytes(32)
    for i in range(1, 5):
        receipt = Receipt("MTR-1", int(T), GOOD.cti, b"d" * 32, "accepted", "", {"watts": 1500}, prev, i)
        message = encode_receipt(receipt)
        assert decode_receipt(message) == receipt
        chain.append((receipt, message))
        prev = chain_hash(message)
    assert broken_links(chain) == []
    assert broken_links([chain[0], chain[2], chain[3]]) == [3]
    altered = (chain[1][0], chain[1][1] + b"x")
    assert broken_links([chain[0], altered, *chain[2:]]) == [3]


class CountedKey:
    """A key that counts how often it is asked."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key, self.curve, self.asked = key, key.curve, 0

    def verify(self, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> None:
        self.asked += 1
        self._key.verify(signature, data, algorithm)


ec.EllipticCurvePublicKey.register(CountedKey)


@pytest.mark.parametrize("key", [LIMITER, STRANGER], ids=["captured", "forged"])
def test_the_same_bytes_again_cost_no_second_verification(key: ec.EllipticCurvePrivateKey) -> None:
    """Verifying is most of what a message costs, and a stranger repeats what it once heard or made by the thousand."""
    counted = CountedKey(LIMITER.public_key())
    limiter = Operator("limiter", cast(Any, counted), frozenset({"limit"}), "Grid control", None)
    judges = Authority("MTR-1", (), Operators(limiter=limiter), lambda kid: None, lambda cti: False)
    judges.judge(signed(aud="MTR-2", key=key), T)
    message = signed(aud="MTR-2", key=key)
    verdicts = {getattr(judges.judge(message, T), "reason", "") for _ in range(50)}
    assert verdicts == {"wrong-audience" if key is LIMITER else "bad-signature"}
    assert counted.asked == 2, "one for each message that is another"
    judges.use(Operators(limiter=replace(limiter, public_key=cast(Any, CountedKey(STRANGER.public_key())))))
    assert getattr(judges.judge(message, T), "reason", "") != verdicts.pop(), "another key is asked itself"
