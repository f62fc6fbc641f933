"""What brokers are told of the authorities: whom to believe (`cafile`), and who is revoked (`crlfile`).

A broker refuses everybody once a list is out of date, so a list is made anew at half of its life, and at once when a
hub is revoked; then the broker is told (`broker_command`, for mosquitto a SIGHUP).
"""

import logging
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.headend.authorities import Authorities, issuer_key, make_list
from deploy.headend.background import Background
from deploy.headend.certificates import KeptList, digest_of
from deploy.headend.config import AuthorityConfig
from deploy.headend.control_point import ControlPoint
from deploy.provision.authority import DeviceAuthority
from drivers.durable_file import replace_file
from hub.headend.bookkeeper import CommandToSend
from hub.wire.printable import one_line, why

_LOG = logging.getLogger("headend")
_DAY_S = 86_400
_ROUND_S = 2.0
_COMMAND_S = 60.0
_RETRY_S = 30.0
Asked = Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]


class RevocationLists:
    """The newest list of each authority. `ask(do)` does something with the control point, in a transaction."""

    def __init__(self, config: AuthorityConfig, authorities: Authorities, ask: Callable[[Asked], Any]) -> None:
        self._config, self._authorities, self._ask = config, authorities, ask

    def renew(self, now_s: int) -> list[KeptList]:
        """The list of each authority whose key is here, made anew where it is time. Raises HardwareError."""
        return [self._renewed(authority, now_s) for authority in self._authorities.with_keys]

    def _renewed(self, authority: DeviceAuthority, now_s: int) -> KeptList:
        issuer, days = issuer_key(authority), self._config.crl_days

        def look(point: ControlPoint) -> tuple[Any, list[CommandToSend]]:
            inventory = point.certificates
            return (inventory.entries(issuer, now_s - 2 * days * _DAY_S), inventory.kept_list(issuer)), []

        entries, kept = self._ask(look)
        is_fresh = kept is not None and kept.next_s - now_s > days * _DAY_S / 2
        if kept is not None and is_fresh and kept.digest == digest_of(entries):
            return kept  # type: ignore[no-any-return]
        made = make_list(authority, entries, 1 if kept is None else kept.number + 1, now_s, days)

        def keep(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            point.certificates.keep_list(issuer, made)
            return None, []

        self._ask(keep)
        _LOG.info("revocation list %d of %s: %d revoked", made.number, issuer, len(entries))
        return made

    def forget_others(self) -> None:
        """Lists of authorities that are not in the configuration any more."""
        issuers = [issuer_key(authority) for authority in self._authorities.with_keys]

        def do(point: ControlPoint) -> tuple[None, list[CommandToSend]]:
            point.certificates.forget_lists(issuers)
            return None, []

        self._ask(do)


class BrokerFiles(Background):
    """The loop: keeps the lists and the bundle of authorities where brokers read them. `counts["broker_files"]`: how
    often they were written; `["broker_files_failed"]`: how often that, or telling the broker, did not succeed."""

    def __init__(
        self, config: AuthorityConfig, authorities: Authorities, ask: Callable[[Asked], Any], counts: dict[str, int],
        retry_s: float = _RETRY_S,
    ) -> None:  # fmt: skip
        super().__init__("broker files")
        self._retry_s = retry_s
        self._config, self._authorities, self._counts = config, authorities, counts
        self._lists = RevocationLists(config, authorities, ask)
        counts.setdefault("broker_files", 0)
        counts.setdefault("broker_files_failed", 0)

    def _run(self) -> None:
        is_told, has_forgotten = True, False
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = _ROUND_S
            try:
                if not has_forgotten:
                    self._lists.forget_others()
                    has_forgotten = True
                if self.write():
                    is_told = False
                if not is_told:
                    self._tell()
                    is_told = True
                    self._counts["broker_files"] += 1
            except Exception as error:  # whatever it is: the lists in force hold for days, and it is tried again
                self._counts["broker_files_failed"] += 1
                _LOG.error("brokers are not told of revocations: %s", why(error))
                wait_s = self._retry_s

    def write(self) -> bool:
        """Once, now; whether something is other than it was. Raises OSError, HardwareError."""
        config, changed, lists = self._config, False, self._lists.renew(int(time.time()))
        if config.trusted_file is not None:
            changed |= _replaced(config.trusted_file, self._authorities.bundle())
        if config.crl_file is not None:
            own = [x509.load_der_x509_crl(kept.der).public_bytes(Encoding.PEM) for kept in lists]
            others = [file.read_bytes() for file in config.more_crls]
            changed |= _replaced(config.crl_file, b"".join([*own, *others]))
        return changed

    def _tell(self) -> None:
        if self._config.broker_command:
            done = subprocess.run(
                self._config.broker_command, capture_output=True, timeout=_COMMAND_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode:
                raise OSError(f"{self._config.broker_command[0]}: {one_line(done.stderr.decode(errors='replace'))}")


def _replaced(file: Path, data: bytes) -> bool:
    """Whether the file had to be written: what brokers have already is not said again. Raises OSError."""
    if file.exists() and file.read_bytes() == data:
        return False
    replace_file(file, data, 0o644)
    return True
