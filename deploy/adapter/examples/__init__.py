# SPDX-License-Identifier: GPL-3.0-or-later
"""Two adapters to start from: copy one to the board as main.py and change what touches hardware."""
