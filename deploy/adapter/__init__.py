# SPDX-License-Identifier: GPL-3.0-or-later
"""A reference appliance adapter for MicroPython; README.md says how to put it on a board."""
