# SPDX-License-Identifier: GPL-3.0-or-later
"""An EZSP network co-processor and the simulated Zigbee network behind it, written from the public protocol."""
