"""A TPM's protection against guessing, set so that power cuts do not lock the key away.

A TPM counts wrong tries of a secret, and takes an end without TPM2_Shutdown after a secret was used for one (TPM 2.0
Library, Part 1, dictionary attack protection). A meter's every power cut is such an end, and the token's PIN is such a
secret. So many tries are allowed, and one is forgiven after a short time: a PIN of 64 random bits is not guessed so.

tpm2-tss is asked through ctypes: where tpm2-pkcs11 is, these libraries are.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hub.wire.keys.pkcs11 import HardwareError

MAX_TRIES = 1000  # so many starts in a row that do not last ten seconds
FORGIVEN_AFTER_S = 10  # one try, while the chip has power

# tss2_esys.h and tss2_tpm2_types.h of tpm2-tss.
_NONE, _PASSWORD, LOCKOUT = 0xFFF, 0x0FF, 0x10A  # ESYS_TR_*
_TPM_PROPERTIES = 6  # TPM2_CAP_TPM_PROPERTIES
_PERMANENT, _MAX_AUTH_FAIL, _INTERVAL, _RECOVERY = 0x200, 0x20F, 0x210, 0x211  # TPM2_PT_*
_LOCKOUT_AUTH_SET = 1 << 2  # TPMA_PERMANENT
_AUTHORIZED = (_PASSWORD, _NONE, _NONE)  # by an empty password
_MOST = 128  # properties in an answer, more than TPM2_MAX_TPM_PROPERTIES


class _Property(ctypes.Structure):
    """TPMS_TAGGED_PROPERTY."""

    _fields_ = [("property", ctypes.c_uint32), ("value", ctypes.c_uint32)]


class _Properties(ctypes.Structure):
    """TPMS_CAPABILITY_DATA, its union as TPML_TAGGED_TPM_PROPERTY."""

    _fields_ = [("capability", ctypes.c_uint32), ("count", ctypes.c_uint32), ("found", _Property * _MOST)]


class Guard(NamedTuple):
    """`max_tries` lock; one is forgiven after `forgiven_after_s` (0: none is counted); the lockout hierarchy's own
    wrong password is forgiven after `recovery_s`. `has_password`: whether that hierarchy has one."""

    max_tries: int
    forgiven_after_s: int
    recovery_s: int
    has_password: bool

    @property
    def endures_power_cuts(self) -> bool:
        return self.max_tries >= MAX_TRIES and self.forgiven_after_s <= FORGIVEN_AFTER_S


class Chip:
    """A TPM, opened by its name for tpm2-tss; nothing else may have it open where there is no resource manager."""

    def __init__(self, tcti: str) -> None:
        self._name = tcti
        try:
            self._esys = ctypes.CDLL("libtss2-esys.so.0")
            self._loader = ctypes.CDLL("libtss2-tctildr.so.0")
            self._rc = ctypes.CDLL("libtss2-rc.so.0")
        except OSError as error:
            raise HardwareError(f"{tcti}: tpm2-tss is not here: {error}") from None
        self._rc.Tss2_RC_Decode.restype = ctypes.c_char_p
        self._way, self._context = ctypes.c_void_p(), ctypes.c_void_p()

    def open(self) -> None:
        self._check(self._loader.Tss2_TctiLdr_Initialize(self._name.encode(), ctypes.byref(self._way)))
        self._check(self._esys.Esys_Initialize(ctypes.byref(self._context), self._way, None))

    def close(self) -> None:
        self._esys.Esys_Finalize(ctypes.byref(self._context))
        self._loader.Tss2_TctiLdr_Finalize(ctypes.byref(self._way))

    def call(self, name: str, *arguments: object) -> None:
        """One function of tss2_esys.h. Raises HardwareError."""
        self._check(getattr(self._esys, name)(self._context, *arguments))

    def _check(self, code: int) -> None:
        if code:
            text = self._rc.Tss2_RC_Decode(ctypes.c_uint32(code)) or b""
            raise HardwareError(f"{self._name}: {text.decode(errors='replace')}")

    def guard(self) -> Guard:
        """What the chip's protection is now."""
        answer = ctypes.POINTER(_Properties)()
        words = (_TPM_PROPERTIES, _PERMANENT, _RECOVERY - _PERMANENT + 1, ctypes.byref(ctypes.c_uint8()))
        self.call("Esys_GetCapability", _NONE, _NONE, _NONE, *words, ctypes.byref(answer))
        known = {each.property: each.value for each in answer.contents.found[: answer.contents.count]}
        self._esys.Esys_Free(answer)
        try:
            password = bool(known[_PERMANENT] & _LOCKOUT_AUTH_SET)
            return Guard(known[_MAX_AUTH_FAIL], known[_INTERVAL], known[_RECOVERY], password)
        except KeyError as error:
            raise HardwareError(f"{self._name}: the TPM does not tell its property {error.args[0]:#x}") from None

    def set_guard(self, max_tries: int, forgiven_after_s: int, recovery_s: int) -> None:
        """TPM2_DictionaryAttackParameters, where the lockout hierarchy has no password."""
        self.call("Esys_DictionaryAttackParameters", LOCKOUT, *_AUTHORIZED, max_tries, forgiven_after_s, recovery_s)


@contextmanager
def opened(tcti: str) -> Iterator[Chip]:
    """The chip, for as long as the block lasts. Raises HardwareError."""
    chip = Chip(tcti)
    try:
        chip.open()
        yield chip
    finally:
        chip.close()


def endure_power_cuts(tcti: str) -> None:
    """See to it that power cuts do not lock the TPM; one that is set so is left alone. Raises HardwareError, also where
    only the owner of its lockout hierarchy could do that."""
    with opened(tcti) as chip:
        guard = chip.guard()
        if guard.endures_power_cuts:
            return
        if guard.has_password:
            parameters = f"--max-tries={MAX_TRIES} --recovery-time={FORGIVEN_AFTER_S}"
            raise HardwareError(
                f"{tcti}: {guard.max_tries} power cuts would lock this TPM, and its lockout hierarchy has a password: "
                f"clear the TPM, or run tpm2_dictionarylockout --setup-parameters {parameters} "
                f"--lockout-recovery-time={guard.recovery_s} --auth=PASSWORD; then repeat the call"
            )
        chip.set_guard(MAX_TRIES, FORGIVEN_AFTER_S, guard.recovery_s)
