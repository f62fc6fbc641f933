"""A key held in hardware, through PKCS#11: it signs, and never leaves (hub/wire/keys/pkcs11.py has its names).

Two libraries use the same key. OpenSSL signs the TLS handshake, through its provider `pkcs11`; that it is loaded is the
business of openssl.cnf ($OPENSSL_CONF). What the hub seals is signed here, through PyKCS11, which is imported by
whoever has such a key and by nobody else. `HardwareKey` is a private key to the library `cryptography`, so that
envelopes, requests for certificates and tests need not know where a key lives.
"""

import ctypes
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from hub.wire.keys.pkcs11 import HardwareError, Pkcs11Uri

_P256_OID = bytes.fromhex("06082a8648ce3d030107")  # RFC 5480 section 2.1.1.1, DER
_COORDINATE = 32
_OS_LOCKING_OK = 0x02  # CKF_OS_LOCKING_OK

T = TypeVar("T")

_modules: dict[str, Any] = {}
_turn = threading.Lock()  # one session, one thread at a time


def library_of(path: str) -> Any:
    """The module, initialised; once per process. Raises HardwareError."""
    import PyKCS11  # half a megabyte of code that a hub with a PEM file never loads

    if path not in _modules:
        library = PyKCS11.PyKCS11Lib()
        try:
            _initialise(path)
            library.load(path)
        except PyKCS11.PyKCS11Error as error:
            raise HardwareError(f"{path}: {error}") from None
        _modules[path] = library
    return _modules[path]


def let_go(path: str) -> None:
    """End a module's work, so that it begins anew: a provisioning station goes from one device's token to the next."""
    library = _modules.pop(path, None)
    if library is not None:
        library.unload()


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS of PKCS#11 2.40 section 3.7."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("create_mutex", "destroy_mutex", "lock_mutex", "unlock_mutex")),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    ]


def _initialise(path: str) -> None:
    """Tell the module that threads use it, before PyKCS11 tells it nothing: OpenSSL signs in another thread than the
    writer, and a module that was not told need not lock (PKCS#11 2.40 section 2.6.2)."""
    # OpenSSL's configuration may have it open the module (deploy/provision/hardware.py): now, and not when the module,
    # which uses OpenSSL itself, makes it read that in the middle of a call, and would wait for itself for ever.
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        call = ctypes.CDLL(path).C_Initialize
    except (OSError, AttributeError) as error:
        raise HardwareError(f"{path}: {error}") from None
    call(ctypes.byref(_InitializeArgs(flags=_OS_LOCKING_OK)))  # already done by OpenSSL's side is as well


class Token:
    """A logged-in session with the token that a URI names; opened anew when it was lost."""

    def __init__(self, uri: Pkcs11Uri) -> None:
        self.uri = uri
        self._session: Any = None

    def use(self, act: Callable[[Any], T]) -> T:
        """`act(session)`, once more on a new session if the token has forgotten ours. Raises HardwareError."""
        try:
            import PyKCS11
        except ImportError:
            raise HardwareError("PyKCS11 is not installed: a key in hardware needs the extra `hardware`") from None
        with _turn:
            try:
                if self._session is not None:
                    try:
                        return act(self._session)
                    except PyKCS11.PyKCS11Error:
                        self._session = None
                self._session = self._open()
                return act(self._session)
            except PyKCS11.PyKCS11Error as error:
                raise HardwareError(f"{self.uri.name}: {error}") from None

    def _open(self) -> Any:
        import PyKCS11

        library = library_of(self.uri.module)
        for slot in library.getSlotList(tokenPresent=True):
            if self._is_wanted(library.getTokenInfo(slot)):
                session = library.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
                pin = self.uri.pin
                if pin is not None:
                    try:
                        session.login(pin)
                    except PyKCS11.PyKCS11Error as error:
                        if error.value != PyKCS11.CKR_USER_ALREADY_LOGGED_IN:  # OpenSSL's side has, for the process
                            raise
                return session
        raise HardwareError(f"{self.uri.name}: no such token")

    def _is_wanted(self, info: Any) -> bool:
        shown = {"token": info.label, "serial": info.serialNumber, "model": info.model}
        return all(
            str(shown[name]).strip("\0 ") == value.decode(errors="replace")
            for name, value in self.uri.path.items()
            if name in shown
        )

    def find(self, session: Any, kind: int, uri: Pkcs11Uri | None = None) -> list[Any]:
        """The objects of a class that the URI names."""
        import PyKCS11

        path = (uri or self.uri).path
        # CKA_TOKEN: OpenSSL's provider keeps a copy of the key in its session, which bears the same name.
        template: list[tuple[int, Any]] = [(PyKCS11.CKA_CLASS, kind), (PyKCS11.CKA_TOKEN, PyKCS11.CK_TRUE)]
        if "object" in path:
            template.append((PyKCS11.CKA_LABEL, path["object"].decode()))
        if "id" in path:
            template.append((PyKCS11.CKA_ID, tuple(path["id"])))
        return list(session.findObjects(template))


class HardwareKey(ec.EllipticCurvePrivateKey):
    """A P-256 key of a token. Raises HardwareError where it cannot be used."""

    def __init__(self, uri: Pkcs11Uri, public_key: ec.EllipticCurvePublicKey) -> None:
        self.uri = uri
        self._public_key = public_key
        self._token = Token(uri)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA over SHA-256 of the data, DER; the token sees the digest alone (CKM_ECDSA is what all of them have)."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256):
            raise ValueError("a key in hardware signs SHA-256")
        digest = hashes.Hash(algorithm)
        digest.update(bytes(data))
        message = digest.finalize()
        signature = self._token.use(lambda session: self._sign(session, message))
        r, s = (int.from_bytes(half, "big") for half in (signature[:_COORDINATE], signature[_COORDINATE:]))
        return encode_dss_signature(r, s)

    def _sign(self, session: Any, digest: bytes) -> bytes:
        import PyKCS11

        keys = self._token.find(session, PyKCS11.CKO_PRIVATE_KEY)
        if len(keys) != 1:
            raise HardwareError(f"{self.uri.name}: {len(keys)} keys of that name on the token, expected 1")
        signature = bytes(session.sign(keys[0], digest, PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)))
        if len(signature) != 2 * _COORDINATE:
            raise HardwareError(f"{self.uri.name}: a signature of {len(signature)} bytes: not a P-256 key")
        return signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def _never(self, *_arguments: object, **_names: object) -> NoReturn:
        raise ValueError("a key in hardware does not leave it")

    exchange = private_numbers = private_bytes = _never

    def __copy__(self) -> "HardwareKey":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "HardwareKey":
        return self


def generate(uri: Pkcs11Uri) -> HardwareKey:
    """Make a P-256 key pair inside the token, under the name that the URI gives by object=; it cannot be taken out.

    Raises HardwareError; also when a key of that name is there.
    """
    import PyKCS11 as P

    label, token = uri.path["object"].decode(), Token(uri)
    ident = tuple(uri.path.get("id") or os.urandom(8))
    shared = [(P.CKA_TOKEN, P.CK_TRUE), (P.CKA_KEY_TYPE, P.CKK_EC), (P.CKA_LABEL, label), (P.CKA_ID, ident)]
    public = [(P.CKA_CLASS, P.CKO_PUBLIC_KEY), (P.CKA_EC_PARAMS, _P256_OID), (P.CKA_VERIFY, P.CK_TRUE), *shared]
    private = [(P.CKA_CLASS, P.CKO_PRIVATE_KEY), (P.CKA_PRIVATE, P.CK_TRUE), (P.CKA_SENSITIVE, P.CK_TRUE),
               (P.CKA_EXTRACTABLE, P.CK_FALSE), (P.CKA_SIGN, P.CK_TRUE), *shared]  # fmt: skip

    def act(session: Any) -> None:
        if token.find(session, P.CKO_PRIVATE_KEY):
            raise HardwareError(f"{uri.name}: there is such a key already")
        for half in token.find(session, P.CKO_PUBLIC_KEY):  # of an attempt that the power ended
            session.destroyObject(half)
        session.generateKeyPair(public, private, mecha=P.Mechanism(P.CKM_EC_KEY_PAIR_GEN, None))

    token.use(act)
    return HardwareKey(uri, read_public_key(uri))


def read_public_key(uri: Pkcs11Uri) -> ec.EllipticCurvePublicKey:
    """The public half of a key pair of the token. Raises HardwareError; also when it is not there, or not P-256."""
    import PyKCS11 as P

    token = Token(uri)

    def act(session: Any) -> tuple[bytes, bytes]:
        found = token.find(session, P.CKO_PUBLIC_KEY)
        if len(found) != 1:
            raise HardwareError(f"{uri.name}: {len(found)} public keys of that name on the token, expected 1")
        curve, point = session.getAttributeValue(found[0], [P.CKA_EC_PARAMS, P.CKA_EC_POINT])
        return bytes(curve), bytes(point)

    curve, point = token.use(act)
    if curve != _P256_OID:
        raise HardwareError(f"{uri.name}: not a P-256 key")
    # PKCS#11 has the point in an BYTE STRING; some modules leave that out.
    raw = point[2:] if point[:2] == b"\x04\x41" else point
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)


def destroy(uri: Pkcs11Uri) -> None:
    """Delete a key pair from the token, if it is there. Raises HardwareError."""
    import PyKCS11

    token = Token(uri)

    def act(session: Any) -> None:
        for kind in (PyKCS11.CKO_PRIVATE_KEY, PyKCS11.CKO_PUBLIC_KEY):
            for found in token.find(session, kind):
                session.destroyObject(found)

    token.use(act)


def load_key(uri: Pkcs11Uri, public_key: object) -> HardwareKey:
    """The key that goes with a certificate's public key, tried once. Raises HardwareError, or ValueError when it is
    another key's."""
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise ValueError("the certificate's key is not P-256, which a key in hardware is")
    key, probe = HardwareKey(uri, public_key), os.urandom(32)
    try:
        public_key.verify(key.sign(probe, ec.ECDSA(hashes.SHA256())), probe, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("is not the key of the certificate") from None
    return key
