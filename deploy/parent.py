"""A process that ends with the one that started it, whatever ended that."""

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """This process gets the signal when the one that started it is gone (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def ends_with_us() -> Callable[[], None]:
    """For a child's `preexec_fn`: it ends with the process that calls this, even one that is gone before the child has
    said so, which no signal tells it any more."""
    us = os.getpid()

    def in_child() -> None:
        end_with_parent()
        if os.getppid() != us:
            os._exit(128 + signal.SIGTERM)

    return in_child
