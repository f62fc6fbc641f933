# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython: the heap that the adapter's modules take, in bytes, from source without line numbers."""

import gc

import micropython

micropython.opt_level(3)


def used():
    gc.collect()
    return gc.mem_alloc()


import hub.wire.mqttsn  # noqa: E402

before = used()
import hub.wire.mqttsn.messages  # noqa: E402

codec = used()
import hub.core.adapter.client  # noqa: E402

client = used()
hub.core.adapter.client.Client("plug-1")
print(codec - before, client - codec)
