"""The control point as a service.

python -m deploy.headend serve headend.toml   run it
python -m deploy.headend worker headend.toml NAME  take packs beside it (workers = N starts N by themselves)
python -m deploy.headend check headend.toml   only look whether the file can be used
python -m deploy.headend broker-files headend.toml   what brokers read of authorities, before the first start
python -m deploy.headend secret               a secret for a new client of the API, and what headend.toml needs of it
python -m deploy.headend openapi              the API's description, as JSON
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.headend.access import new_secret
from deploy.headend.authorities import Authorities
from deploy.headend.config import BadConfig, HeadendConfig, load
from deploy.headend.live import Live
from deploy.headend.service import Service
from deploy.headend.worker import PackWorker, WorkersPart
from drivers.pkcs11_token import load_key, read_public_key
from hub.headend.database import FAILURES
from hub.wire.keys.pkcs11 import HardwareError, uri_of
from hub.wire.printable import why
from hub.wire.uplink.envelope import FileSigner

if TYPE_CHECKING:
    import uvicorn

    from deploy.headend.crl import BrokerFiles
    from deploy.headend.est import EnrolmentServer
    from deploy.headend.openadr_notices import Webhooks

_FINE, _PROBLEM, _USAGE = 0, 1, 2


def operator_signer(file: Path) -> FileSigner:
    """The operator's key: of a PEM file, or in a token (a PEM file that names it, or a `pkcs11:` URI). Raises
    BadConfig."""
    try:
        uri = uri_of(file)
        if uri is not None:
            return FileSigner(load_key(uri, read_public_key(uri)), b"")
        key = load_pem_private_key(file.read_bytes(), None)
    except HardwareError as error:
        raise BadConfig(f"the operator's key: {why(error)}") from None
    except (OSError, ValueError, TypeError) as error:
        raise BadConfig(f"{file}: {why(error)}") from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise BadConfig(f"{file}: expected a P-256 or Ed25519 key")
    return FileSigner(key, b"")


def serve(config: HeadendConfig) -> int:
    """Run until SIGTERM or Ctrl-C."""
    import uvicorn

    from deploy.headend.api import make_api

    live = Live()
    service = Service(config, operator_signer(config.operator_key_file), live.heard)
    try:
        service.start()
    except (*FAILURES, ValueError) as error:
        print(f"headend: {why(error)}", file=sys.stderr)
        return _PROBLEM
    try:
        beside: list[Any] = [*start_authority(config, service), *start_webhooks(config, service)]
    except (OSError, BadConfig) as error:
        print(f"headend: {why(error)}", file=sys.stderr)
        service.stop()
        return _PROBLEM
    # uvicorn ends in good order and then lets the signal do what it would have done without it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        how = uvicorn.Config(
            make_api(config, service, live), host=config.listen_host, port=config.listen_port, log_level="warning",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        asyncio.run(_run(uvicorn.Server(how), live))
    finally:
        for each in beside:
            each.stop()
        service.stop()
    return _FINE


def start_authority(config: HeadendConfig, service: Service) -> "list[BrokerFiles | EnrolmentServer]":
    """What certifies hubs and tells brokers of it, where there is an authority. Raises BadConfig, OSError."""
    if config.authority is None:
        return []
    from deploy.headend.crl import BrokerFiles
    from deploy.headend.est import Enrolment, EnrolmentServer

    authorities = Authorities(config.authority)
    files = BrokerFiles(config.authority, authorities, service.ask, service.counts)
    started: list[BrokerFiles | EnrolmentServer] = [files]
    if config.authority.est is not None:
        enrolment = Enrolment(authorities, service.ask, service.counts)
        bundle_file = config.data_dir / "believed.pem"
        server = EnrolmentServer(*config.authority.est, authorities, bundle_file, enrolment)
        server.start()
        started.append(server)
    files.start()
    return started


def start_webhooks(config: HeadendConfig, service: Service) -> "list[Webhooks]":
    """What tells OpenADR's subscribers, where the configuration lets there be some. Raises OSError."""
    if not config.callback_hosts:
        return []
    from deploy.headend.openadr_notices import Webhooks

    webhooks = Webhooks(config.callback_ca_file, service.ask, service.counts)
    webhooks.start()
    return [webhooks]


def write_broker_files(config: HeadendConfig) -> int:
    """While the service does not run: a broker wants its files before the service wants its broker."""
    from deploy.headend.control_point import ControlPoint
    from deploy.headend.crl import BrokerFiles

    if config.authority is None:
        print("headend: [authority] is missing", file=sys.stderr)
        return _USAGE
    try:
        point = ControlPoint(config.place, config.operator_kid, operator_signer(config.operator_key_file))

        def ask(do: Any) -> Any:
            point.book.begin()
            answer, _ = do(point)
            point.commit()
            return answer

        BrokerFiles(config.authority, Authorities(config.authority), ask, {}).write()
        point.close()
    except (*FAILURES, HardwareError) as error:
        print(f"headend: {why(error)}", file=sys.stderr)
        return _PROBLEM
    return _FINE


async def _run(server: "uvicorn.Server", live: Live) -> None:
    live.attach(asyncio.get_running_loop())
    await server.serve()


def _part_of(words: str) -> WorkersPart:
    """Of `2/3` the second of three. Raises ValueError."""
    number, count = (int(word) for word in words.split("/"))
    if not 1 <= number <= count:
        raise ValueError
    return WorkersPart(number, count)


def work(config: HeadendConfig, name: str, *, part: WorkersPart | None, leaves: bool) -> int:
    """A worker, until SIGTERM or Ctrl-C. It signs nothing: the operator's key need not be here. Raises BadConfig."""
    if (part is not None) != config.is_divided_by_name and not leaves:
        raise BadConfig(f"{config.file}: broker.divides_by: expected name with --part, and broker without")
    if not config.workers:
        raise BadConfig(f"{config.file}: service.workers: expected 1 or more: else the service takes packs itself")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        worker = PackWorker(config, name, part)
        if leaves:
            worker.leave()
        else:
            worker.run(stopping)
    except FAILURES as error:
        print(f"headend: worker {name}: {why(error)}", file=sys.stderr)
        return _PROBLEM
    return _FINE


def openapi() -> dict[str, Any]:
    """The description of the API; nothing is started for it."""
    from zoneinfo import ZoneInfo

    from deploy.headend.api import make_api

    nothing = Path("nothing")
    config = HeadendConfig(nothing, "", 0, ZoneInfo("UTC"), (), nothing, nothing, nothing, "openapi", "", nothing)
    signer = FileSigner(ed25519.Ed25519PrivateKey.generate(), b"")
    live = Live()
    return make_api(config, Service(config, signer, live.heard), live).openapi()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.headend", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("serve", "check", "broker-files"):
        actions.add_parser(name).add_argument("config", type=Path)
    worker = actions.add_parser("worker")
    worker.add_argument("config", type=Path)
    worker.add_argument("name", help="of its session at the brokers")
    worker.add_argument("--part", type=_part_of, metavar="N/OF", help="of the hubs, with broker.divides_by = name")
    worker.add_argument("--leave", action="store_true", help="for good: take what its session holds, and end that")
    actions.add_parser("secret")
    actions.add_parser("openapi")
    arguments = parser.parse_args()
    if arguments.action == "secret":
        secret, digest = new_secret()
        print(f'secret         {secret}\nheadend.toml   secret_sha256 = "{digest}"')
        return _FINE
    if arguments.action == "openapi":
        print(json.dumps(openapi(), indent=1))
        return _FINE
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    try:
        config = load(arguments.config)
        if arguments.action == "worker":
            return work(config, arguments.name, part=arguments.part, leaves=arguments.leave)
        operator_signer(config.operator_key_file)
        if config.authority is not None:
            Authorities(config.authority)
    except BadConfig as error:
        print(f"headend: {error}", file=sys.stderr)
        return _USAGE
    if arguments.action == "broker-files":
        return write_broker_files(config)
    return _FINE if arguments.action == "check" else serve(config)


if __name__ == "__main__":
    sys.exit(main())
