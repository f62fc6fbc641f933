# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers for tests and demonstrations: a radio, the appliances behind it, and a program that serves them.

Nothing here imports the stack it is driven by; a defect in that stack must not be able to hide in its own test.
"""
