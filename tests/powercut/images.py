"""Cuts the power at every kind of moment of a recording, and has each image judged."""

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.powercut.disk import HOW, Disk, write_image
from tests.powercut.judge import Said, judge
from tests.powercut.recording import Op


class Failed(AssertionError):
    """An image that does not hold; `folder` keeps it."""


def cuts(ops: list[Op], images: int, seed: int) -> Iterator[tuple[int, str, dict[str, bytes], Said]]:
    """`(operation, how, image, what had been said)` of so many different images, spread over the recording."""
    chance = random.Random(seed)
    moments = Counter(chance.choices(range(1, len(ops) + 1), k=3 * images))
    disk, said, known, made = Disk(), Said(), set[bytes](), 0
    for number, op in enumerate(ops, 1):
        disk.do(op)
        if op.kind == "said":
            said.hear(op.said)
        # Spread evenly: duplicates (nothing pending) make room for later moments, never for more at the end.
        for _ in range(moments[number]):
            if made >= images * number / len(ops):
                break
            how = chance.choice(HOW) if disk.unsynced else "all"
            image = disk.image(how, chance)
            digest = _digest(image, len(said.taken))
            if digest not in known:
                known.add(digest)
                made += 1
                yield number, how, image, said


def _digest(image: dict[str, bytes], taken: int) -> bytes:
    digest = hashlib.blake2b(b"%d" % taken, digest_size=16)
    for name, content in image.items():
        digest.update(b"%s\0%d\0" % (name.encode(), len(content)))
        digest.update(content)
    return digest.digest()


def judge_all(ops: list[Op], images: int, seed: int, folder: Path) -> Counter[str]:
    """Judge so many images; how many of each kind there were. Raises Failed at the first that does not hold."""
    judged: Counter[str] = Counter()
    for number, how, image, said in cuts(ops, images, seed):
        place = folder / "image"
        write_image(image, place)
        try:
            judge(place, said)
        except Exception as error:
            kept = folder / "failed"
            shutil.rmtree(kept, ignore_errors=True)
            write_image(image, kept)
            raise Failed(f"seed {seed}, operation {number}, {how} kept, see {kept}: {error!r}") from error
        judged[how] += 1
    return judged
