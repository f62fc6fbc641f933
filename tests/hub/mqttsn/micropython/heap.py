# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython: the heap that the adapter's modules take, in octets, from source without line numbers."""

import gc

import micropython

micropython.opt_level(3)


def used():
    gc.collect()
    return gc.mem_alloc()


import hub.mqttsn  # noqa: E402

before = used()
import hub.mqttsn.codec  # noqa: E402

codec = used()
import hub.mqttsn.client  # noqa: E402

client = used()
hub.mqttsn.client.Client("plug-1")
print(codec - before, client - codec)
