"""Power cuts: every image a disk may be left with, opened by the real store (promises P1 and P2).

workload.py   the real store at work, and what it says it has taken into custody
recording.py  the writes and syncs that its process makes, as the kernel sees them (strace)
disk.py       what of them a disk may hold when the power goes
judge.py      what must be true of each such image
"""
