"""Keys in hardware at manufacture: the name of a key, the file that names it, OpenSSL's configuration for it."""

from pathlib import Path


def openssl_conf(module: Path, provider: Path | None = None) -> str:
    """An openssl.cnf by which OpenSSL finds keys of this PKCS#11 module. `provider`: the provider's file, where it is
    not among OpenSSL's own modules.

    The default provider stays first: it does everything but what only the token can.
    """
    where = f"module = {provider}\n" if provider else ""
    return (
        "# The device key is held in hardware: see deploy/provision/README.md of meterhub.\n"
        "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n"
        "default = default_provider\npkcs11 = pkcs11_provider\n"
        f"[default_provider]\nactivate = 1\n[pkcs11_provider]\n{where}pkcs11-module-path = {module}\nactivate = 1\n"
    )
