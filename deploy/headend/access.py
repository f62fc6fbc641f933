"""Who may ask the API for what: OAuth 2 client credentials (RFC 6749, section 4.4) with bearer tokens (RFC 6750)."""

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

from deploy.headend.config import ApiClient

TOKEN_S = 3600
_MAX_TOKENS = 1000  # of one client: who asks for more loses its own oldest, and nobody else's


class Access:
    """Gives tokens to clients of the configuration and knows whose a token is. `now`: monotonic seconds."""

    def __init__(self, clients: dict[str, ApiClient], now: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._now = now
        self._tokens: dict[bytes, tuple[ApiClient, float]] = {}  # SHA-256 of the token -> whose, until when
        self._given: dict[str, deque[bytes]] = {}  # client -> digests of its tokens, the oldest first

    def token_for(self, client_id: str, secret: str) -> str | None:
        """A token for TOKEN_S, or None where the secret is not that client's."""
        client = self._clients.get(client_id)
        known = client.secret_sha256 if client is not None else "0" * 64
        is_right = hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), known)
        if client is None or not is_right:
            return None
        now = self._now()
        given = self._given.setdefault(client_id, deque())
        if len(given) >= _MAX_TOKENS:
            del self._tokens[given.popleft()]
        token = secrets.token_urlsafe(32)
        given.append(_digest(token))
        self._tokens[given[-1]] = (client, now + TOKEN_S)
        return token

    def client_of(self, token: str) -> ApiClient | None:
        """Whose token it is, or None where it is nobody's or too old."""
        client, until = self._tokens.get(_digest(token), (None, 0.0))
        return client if self._now() < until else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def new_secret() -> tuple[str, str]:
    """`(secret, its SHA-256 in hex)` for a new client."""
    secret = secrets.token_urlsafe(32)
    return secret, hashlib.sha256(secret.encode()).hexdigest()
