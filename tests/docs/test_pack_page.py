"""docs/pack.md and docs/pack.mjs: what they say of a pack is what a hub seals, and a stranger's reader reads it."""

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.wire.uplink.envelope import FileSigner, open_envelope, seal
from hub.wire.uplink.pack import CONTENT_TYPE, decode_pack, deflate_pack, encode_pack, inflate_pack
from hub.wire.uplink.pack_form import PackForm
from hub.wire.uplink.reading import Reading

DOCS = Path(__file__).resolve().parents[2] / "docs"
KID = bytes.fromhex("0102030405060708")
T0 = 1_790_000_000_000
# Sealed many at a time: a process of node takes longer than a thousand readings.
_READ_ALL = """
import { readings } from %s;
import { readFileSync } from "node:fs";
const { key, envelopes } = JSON.parse(readFileSync(0));
console.log(JSON.stringify(envelopes.map((hex) => readings(Buffer.from(hex, "hex"), key))));
"""


def block(title: str, number: int = 0) -> str:
    """A block of code of a section, without its comments."""
    section = (DOCS / "pack.md").read_text("utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    lines = re.findall(r"```text\n(.*?)```", section, re.DOTALL)[number].splitlines()
    return "\n".join(line.strip() for line in lines)


def raw(text: str) -> bytes:
    return bytes.fromhex("".join(re.match(r"(?:[0-9a-f]{2}(?: |$))*", line)[0] for line in text.splitlines()))  # type: ignore[index]


def node(envelopes: list[bytes], key: Any) -> list[list[dict[str, Any]]]:
    public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    script = _READ_ALL % json.dumps((DOCS / "pack.mjs").as_uri())
    given_ = json.dumps({"key": public, "envelopes": [envelope.hex() for envelope in envelopes]})
    words = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(words, input=given_, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise ValueError(done.stderr)
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def facts(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("client", "quantity", "t_ms", "value", "exponent", "flags")
    return [tuple(int(row[name]) if name in ("t_ms", "value") else row[name] for name in names) for row in rows]


def test_the_pack_of_the_page_is_what_the_hub_packs() -> None:
    readings = [
        Reading("kettle", "power", T0 + 250, 2000, 0),
        Reading("kettle", "power", T0 + 10_250, 2013, 0),
        Reading("main", "energy", T0 + 10_900, 1_234_567, -1, 1),
    ]
    assert raw(block("A pack to test with")) == encode_pack(readings)


def test_the_envelope_of_the_page_is_read_by_both(tmp_path: Path) -> None:
    pem, envelope = block("An envelope to test with").encode(), raw(block("An envelope to test with", 1))
    key = serialization.load_pem_public_key(pem)
    assert isinstance(key, ed25519.Ed25519PublicKey)
    opened = open_envelope(envelope, lambda kid: key if kid == KID else None)
    assert (opened.hub, opened.epoch, opened.lane, opened.number) == ("MTR-1", 1_790_000_000, "readings", 7)
    minute = [Reading("kettle", "power", T0 + 1000 * second, 2000, 0) for second in range(60)]
    assert decode_pack(inflate_pack(opened.header, opened.payload)) == minute
    (tmp_path / "key.pem").write_bytes(pem)
    words = ["node", DOCS / "pack.mjs", tmp_path / "key.pem"]  # as the page types it
    done = subprocess.run(words, input=envelope, capture_output=True, timeout=120, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert facts(rows) == [(*reading[:3], 2000, 0, 0) for reading in minute]
    assert {(row["hub"], row["epoch"], row["lane"], row["number"]) for row in rows} == {
        ("MTR-1", 1_790_000_000, "readings", 7)
    }


_packs = st.lists(
    st.builds(
        Reading,
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=23),
        st.sampled_from(["power", "energy", "x" * 30]),
        st.integers(0, 2**42),
        st.integers(-(10**18), 10**18),
        st.integers(-9, 0),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(_packs, st.builds(PackForm, st.booleans(), st.sampled_from([1, 100]))), min_size=20))
def test_a_strangers_reader_reads_whatever_is_sealed(kind: str, packs: list[tuple[list[Reading], PackForm]]) -> None:
    private = ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else ed25519.Ed25519PrivateKey.generate()
    envelopes, plain = [], []
    for number, (readings, form) in enumerate(packs, 1):
        plain.append(encode_pack(form.in_steps(readings)))
        payload, extra = deflate_pack(plain[-1]) if form.deflate else (plain[-1], {})
        envelopes.append(seal(FileSigner(private, KID), "MTR-1", 5, "readings", number, CONTENT_TYPE, payload, extra))
    for pack, rows in zip(plain, node(envelopes, private.public_key()), strict=True):
        ours = [(r.client_id, r.quantity, r.t_ms, r.mantissa, r.exponent, r.flags) for r in decode_pack(pack)]
        assert facts(rows) == ours


def test_a_strangers_reader_believes_no_other_key_and_no_changed_byte() -> None:
    private, chance = ec.generate_private_key(ec.SECP256R1()), random.Random(5)
    pack = encode_pack([Reading("kettle", "power", T0, 2000, 0)])
    envelope = seal(FileSigner(private, KID), "MTR-1", 5, "readings", 1, CONTENT_TYPE, pack)
    assert len(node([envelope], private.public_key())) == 1
    with pytest.raises(ValueError, match="not signed by this hub"):
        node([envelope], ec.generate_private_key(ec.SECP256R1()).public_key())
    for _ in range(5):
        at = chance.randrange(2, len(envelope))
        with pytest.raises(ValueError):
            node([envelope[:at] + bytes([envelope[at] ^ 0x10]) + envelope[at + 1 :]], private.public_key())
