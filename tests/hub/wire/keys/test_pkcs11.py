"""Names of keys in hardware: URIs and their PEM, whatever they hold."""

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.keys.pkcs11 import BadUri, make_uri, parse_uri, to_pem, uri_of

NAMES = st.dictionaries(st.sampled_from(["token", "object", "id", "serial"]), st.binary(min_size=1, max_size=80))
QUERY = st.dictionaries(
    st.sampled_from(["pin-value", "pin-source", "module-path"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=200),
)


@given(NAMES.filter(lambda path: "object" in path or "id" in path), QUERY)
def test_a_name_reads_as_it_was_made(path: dict[str, bytes], query: dict[str, str]) -> None:
    uri = make_uri(path, query)
    assert parse_uri(uri.text) == uri


@pytest.mark.parametrize("size", [10, 60, 90, 100, 200, 300, 5000])
def test_the_pem_holds_the_name_at_every_length_of_der(tmp_path: Path, size: int) -> None:
    uri = make_uri({"object": b"hub"}, {"pin-source": "/" + "x" * size})
    file = tmp_path / "hub.key"
    file.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + to_pem(uri))
    assert uri_of(file) == uri


def test_the_pem_is_what_the_provider_documents(tmp_path: Path) -> None:
    # SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String "pkcs11:object=hub" }, by hand.
    der = (
        bytes.fromhex("302e1a19504b435323313120") + b"Provider URI v1.0" + bytes.fromhex("0c11") + b"pkcs11:object=hub"
    )
    text = "".join(to_pem(make_uri({"object": b"hub"}, {})).decode().splitlines()[1:-1])
    assert base64.b64decode(text) == der


@given(st.binary(max_size=300))
def test_any_bytes_in_a_key_file_are_no_name_or_told(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes"
    for content in (data, _wrapped(base64.b64encode(data)), _wrapped(data)):
        file.write_bytes(content)
        with contextlib.suppress(BadUri):
            uri_of(file)


def _wrapped(data: bytes) -> bytes:
    return b"-----BEGIN PKCS#11 PROVIDER URI-----\n" + data + b"\n-----END PKCS#11 PROVIDER URI-----\n"


@pytest.mark.parametrize(
    "text",
    ["", "pkcs11", "pkcs11:", "pkcs11:token=a", "pkcs11:object", "pkcs11:object=a;object=b", "pkcs11:object=a b",
     "pkcs11:object=a;slot-colour=b", "http://object=a", "pkcs11:object=é"],
)  # fmt: skip
def test_what_names_no_key_is_told(text: str) -> None:
    with pytest.raises(BadUri, match="pkcs11:"):
        parse_uri(text)


def test_a_log_never_shows_a_pin() -> None:
    uri = parse_uri("pkcs11:object=hub?pin-value=1234")
    assert "1234" not in uri.name and uri.pin == "1234"
