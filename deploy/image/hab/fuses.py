"""The fuses of an i.MX6UL that a factory blows, and in which order. A bit that is blown stays so.

Banks and words are counted as U-Boot's `fuse` does (i.MX 6UltraLite reference manual, "Fusemap", "OCOTP"). What other
words are for is here, too: the board's secret must lie where nothing else reads (`tests/image/test_hab.py`).
"""

from typing import NamedTuple


class Fuse(NamedTuple):
    """Bits to blow in one word."""

    name: str
    bank: int
    word: int
    value: int

    @property
    def command(self) -> str:
        """U-Boot's."""
        return f"fuse prog -y {self.bank} {self.word} 0x{self.value:08x}"


# First word, how many, what for.
MAP = {
    "lock bits": ((0, 0), 1),
    "unique id": ((0, 1), 2),
    "configuration of the boot": ((0, 3), 5),
    "memory, analog, USB": ((1, 0), 8),
    "OTPMK, the master key, which no program reads": ((2, 0), 8),
    "SRK_HASH": ((3, 0), 8),
    "SJC_RESP, the answer that opens JTAG": ((4, 0), 2),
    "the Ethernet addresses": ((4, 2), 3),
    "CRC of the master key": ((4, 5), 1),
    "GP1, GP2": ((4, 6), 2),
    "SW_GP": ((5, 0), 5),
    "MISC_CONF, FIELD_RETURN, SRK_REVOKE": ((5, 5), 3),
    "patches of the ROM": ((6, 0), 16),
}
UNIQUE_ID, SRK_HASH = MAP["unique id"][0], MAP["SRK_HASH"][0]
BOOT_CONFIGURATION = (0, 6)  # SEC_CONFIG and what closes the chip otherwise
# GP3 has sixteen words for whatever a board wants, and one lock. The first eight are this chip's secret.
SECRET, SECRET_WORDS = (8, 0), 8
CLOSED = 0x00000002
LOCK_SECRET = Fuse("GP3_LOCK: the secret can be neither changed nor overridden", 0, 0, 0x00008000)
LOCK_ROOTS = Fuse("SRK_LOCK: nor the roots' hash", 0, 0, 0x00004000)
# After a signed board has started without an event. What ends debugging comes first: from SEC_CONFIG on no bench helps.
CLOSING = (
    LOCK_ROOTS,
    Fuse("JTAG_SMODE: no debugger", *BOOT_CONFIGURATION, 0x00C00000),
    Fuse("SJC_DISABLE: nor JTAG at all", *BOOT_CONFIGURATION, 0x00100000),
    Fuse("DIR_BT_DIS: no start around the ROM's checks", *BOOT_CONFIGURATION, 0x00000008),
    Fuse("SEC_CONFIG: nothing unsigned starts", *BOOT_CONFIGURATION, CLOSED),
)


def srk_fuses(words: list[int]) -> list[Fuse]:
    """The hash of the roots' table, word by word."""
    bank, first = SRK_HASH
    return [Fuse(f"SRK_HASH {number + 1} of 8", bank, first + number, word) for number, word in enumerate(words)]


def nvmem_offset(bank: int, word: int) -> int:
    """Where Linux shows a word: bytes from the start of imx-ocotp's nvmem, which counts the gap of two banks that the
    registers have before bank 6."""
    return 4 * (8 * (bank + (2 if bank >= 6 else 0)) + word)


def script(words: list[int]) -> str:
    """All but the secret, for a person at an open U-Boot; bench.py does the same and looks at each step."""
    lines = ["# The roots' hash, and what is there then."]
    lines += [f"{fuse.command}  # {fuse.name}" for fuse in srk_fuses(words)]
    lines += ["fuse sense 3 0 8", "", "# Now start the board with SPL-signed and u-boot-signed.img. Go on only where"]
    lines += ['# it says "No HAB Events Found!". From here on a board that is not right never starts again.']
    lines += [f"{fuse.command}  # {fuse.name}" for fuse in CLOSING]
    return "\n".join(lines) + "\n"
