"""Names of keys that are held in hardware: pkcs11: URIs (RFC 7512), and the PEM file by which OpenSSL finds such a key.

What is named so signs in drivers/pkcs11_token.py.
"""

import base64
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

SCHEME = "pkcs11:"
_DESCRIPTION = b"PKCS#11 Provider URI v1.0"  # pkcs11-provider's docs/pem-encoding
_LABEL = "PKCS#11 PROVIDER URI"
_PEM = re.compile(f"-----BEGIN {_LABEL}-----\\s(.*?)-----END {_LABEL}-----".encode(), re.DOTALL)
_VISIBLE_STRING, _UTF8_STRING, _SEQUENCE = 0x1A, 0x0C, 0x30
_PATH = {"token", "serial", "model", "object", "id", "type"}
MODULE_VARIABLE = "PKCS11_PROVIDER_MODULE"  # what the provider reads, too


class HardwareError(Exception):
    """The key cannot be used now; the text says which and why. It may pass: a module that starts late, a reset."""


class BadUri(ValueError):
    """The URI or its PEM is not what RFC 7512 or the provider takes; the text says what is expected."""


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """Where a key is: `path` attributes select it, `query` attributes say how to come to it (RFC 7512 section 2.3)."""

    path: dict[str, bytes]
    query: dict[str, str]
    text: str

    @property
    def module(self) -> str:
        """The module's shared object. Raises HardwareError where nothing names it."""
        found = self.query.get("module-path") or os.environ.get(MODULE_VARIABLE, "")
        if not found:
            raise HardwareError(f"{self.name}: no module; add ?module-path=FILE or set {MODULE_VARIABLE}")
        return found

    @property
    def pin(self) -> str | None:
        """The PIN, of the URI itself or of the file it names; None: no login. Raises HardwareError."""
        if "pin-value" in self.query:
            return self.query["pin-value"]
        source = self.query.get("pin-source")
        if source is None:
            return None
        try:
            return Path(source.removeprefix("file:")).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise HardwareError(f"{self.name}: pin-source: {error}") from None

    @property
    def name(self) -> str:
        """The URI without its query: fit for a log."""
        return self.text.partition("?")[0]

    def sibling(self, label: str) -> "Pkcs11Uri":
        """The name of another key of the same token."""
        path = {key: value for key, value in self.path.items() if key not in ("object", "id")}
        return make_uri({**path, "object": label.encode(), "type": b"private"}, self.query)


def make_uri(path: dict[str, bytes], query: dict[str, str]) -> Pkcs11Uri:
    """A URI out of its attributes."""
    text = SCHEME + ";".join(f"{key}={quote(value, safe='')}" for key, value in path.items())
    if query:
        text += "?" + "&".join(f"{key}={quote(value, safe=':/.-_')}" for key, value in query.items())
    return Pkcs11Uri(path, query, text)


def parse_uri(text: str) -> Pkcs11Uri:
    """Read a pkcs11: URI. Raises BadUri."""
    scheme, _, rest = text.partition(":")
    if scheme != "pkcs11" or not text.isascii() or not text.isprintable() or " " in text:
        raise BadUri("a URI such as pkcs11:token=meterhub;object=hub;type=private?pin-source=/etc/meterhub/pin")
    before, _, after = rest.partition("?")
    path = _attributes(before, ";")
    if unknown := set(path) - _PATH:
        raise BadUri(f"a pkcs11: URI of {', '.join(sorted(_PATH))}; found {unknown.pop()[:40]!r}")
    if not {"object", "id"} & set(path):
        raise BadUri("a pkcs11: URI that names the key by object= or id=")
    try:
        query = {key: value.decode() for key, value in _attributes(after, "&").items()}
    except UnicodeDecodeError:
        raise BadUri("a pkcs11: URI whose query is UTF-8") from None
    return Pkcs11Uri(path, query, text)


def _attributes(text: str, separator: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        key, equals, value = part.partition("=")
        if not equals or key in found:
            raise BadUri(f"a pkcs11: URI with each attribute once, as NAME=VALUE; found {part[:40]!r}")
        found[key] = unquote_to_bytes(value)
    return found


def uri_of(key_file: Path) -> Pkcs11Uri | None:
    """The URI that a configured key file is or holds; None: it is an ordinary file. Raises BadUri or OSError."""
    if str(key_file).startswith(SCHEME):
        return parse_uri(str(key_file))
    found = _PEM.search(key_file.read_bytes())
    if found is None:
        return None
    try:
        text = _from_der(base64.b64decode(found[1]))
    except BadUri:
        raise
    except ValueError:  # neither base64 nor UTF-8
        raise BadUri("a PEM that holds a PKCS#11 provider URI") from None
    return parse_uri(text)


def to_pem(uri: Pkcs11Uri) -> bytes:
    """The file that OpenSSL's provider takes for a private key; it holds a name, and no key."""
    body = _der(_VISIBLE_STRING, _DESCRIPTION) + _der(_UTF8_STRING, uri.text.encode())
    text = base64.b64encode(_der(_SEQUENCE, body)).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""]).encode()


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _from_der(data: bytes) -> str:
    body = _content(data, _SEQUENCE)[0]
    description, rest = _content(body, _VISIBLE_STRING)
    if description != _DESCRIPTION:
        raise BadUri(f"a PEM of {_DESCRIPTION.decode()}, found {description[:40]!r}")
    return _content(rest, _UTF8_STRING)[0].decode()


def _content(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """`(content of the first element, what follows it)`. Raises BadUri."""
    if len(data) < 2 or data[0] != tag:
        raise BadUri("a PEM that holds a PKCS#11 provider URI")
    size, at = data[1], 2
    if size & 0x80:
        width = size & 0x7F
        size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
    if at + size > len(data):
        raise BadUri("a PEM that holds a whole PKCS#11 provider URI")
    return data[at : at + size], data[at + size :]
