"""Whether a folder's files are encrypted where they rest (promise P6): what a thief of the flash would have to break.

The hub does not encrypt by itself: the data partition does, with a key that only this device has (deploy/). Here it is
only told, so that `doctor` can say when an image came without.
"""

import fcntl
import os
import struct
from pathlib import Path

# include/uapi/linux/fscrypt.h: _IOWR('f', 22, __u8[9]), then a size and a policy of at most 24 bytes
_FS_IOC_GET_ENCRYPTION_POLICY_EX = 0xC0096616
# A mapped device says who made it: cryptsetup, for LUKS and plain alike, begins with this.
_DM_CRYPT = "CRYPT-"
_MOST_LAYERS = 8
PROMISE_VARIABLE = "METERHUB_AT_REST"


def is_encryption_promised() -> bool:
    """Whether who built this system says that its data rests encrypted (the image does): then it is checked."""
    return os.environ.get(PROMISE_VARIABLE) == "encrypted"


def encryption_of(folder: Path, sysfs: Path = Path("/sys")) -> str | None:
    """ "fscrypt" (the file system encrypts this folder), "dm-crypt" (the block device is encrypted), or None. Raises
    OSError when the folder is not there."""
    if _has_policy(folder):
        return "fscrypt"
    device = os.stat(folder).st_dev
    block = sysfs / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    return "dm-crypt" if _is_mapped(block, _MOST_LAYERS) else None


def _has_policy(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GET_ENCRYPTION_POLICY_EX, struct.pack("<Q24x", 24))
    except OSError:  # ENODATA: no policy; ENOTTY, EOPNOTSUPP: a file system that knows none
        return False
    finally:
        os.close(descriptor)
    return True


def _is_mapped(block: Path, layers: int) -> bool:
    """Whether the device, or one that it is made of (a volume group on an encrypted partition), is encrypted."""
    try:
        if (block / "dm" / "uuid").read_text().startswith(_DM_CRYPT):
            return True
    except OSError:
        pass
    slaves = block / "slaves"
    below = sorted(slaves.iterdir()) if layers and slaves.is_dir() else []
    return bool(below) and all(_is_mapped(slave, layers - 1) for slave in below)
