"""What only the start of the board knows, as the image's initramfs leaves it beside the requests about slots
(deploy/image/initramfs/init): what runs from where, and where the data partition's files are; and whether the packet
filter stands that an image promises."""

import os
import re
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "board"
FILTER_VARIABLE = "METERHUB_PACKET_FILTER"
_MOST_BYTES = 4096


class BoardFacts(NamedTuple):
    """image: the version of what was flashed or installed; slot: "A" or "B"; rollback_index: the release's;
    data: "partition", or "memory" where the partition could not be used, for the reason `data_why`."""

    image: str
    slot: str
    rollback_index: int
    data: str
    data_why: str


def read_board(folder: Path) -> BoardFacts | None:
    """What the initramfs said. None where there is no image with slots, or an older one, which says nothing."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            text = file.read(_MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return None
    told = dict(re.findall(r"^([a-z_]+)=(.*)$", text, re.MULTILINE))
    if told.get("slot") not in ("A", "B"):
        return None
    index = told.get("index", "")
    return BoardFacts(
        told.get("image", ""),
        told["slot"],
        int(index) if re.fullmatch(r"\d{1,9}", index, re.ASCII) else 0,
        "memory" if told.get("data") == "memory" else "partition",
        told.get("data_why", ""),
    )


def is_filter_missing() -> bool:
    """Whether this image promises a packet filter (FILTER_VARIABLE: a file that is there as long as it stands), and
    none stands. The hub may not ask the kernel: it has no right to anything of the network's."""
    mark = os.environ.get(FILTER_VARIABLE)
    return mark is not None and not Path(mark).exists()
