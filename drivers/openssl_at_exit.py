"""A process that has OpenSSL use a PKCS#11 module must not have it tidied up at its end.

OpenSSL frees its providers from an exit handler (OPENSSL_cleanup). A module that is written in C++, as softhsm2 is,
was loaded later, so its own objects are gone by then; the provider closes its session in it all the same, and the
process dies of SIGSEGV instead of ending with its exit status. The kernel takes the memory back anyway.
"""

import ctypes

_NO_ATEXIT = 0x00080000  # OPENSSL_INIT_NO_ATEXIT, OPENSSL_init_crypto(3)


def leave_modules_alone() -> None:
    """Before anything imports `ssl` or `hashlib`: only the first initialisation may say so."""
    try:
        initialise = ctypes.CDLL("libcrypto.so.3").OPENSSL_init_crypto
    except (OSError, AttributeError):
        return  # a Python with an OpenSSL of its own
    initialise(ctypes.c_uint64(_NO_ATEXIT), None)
