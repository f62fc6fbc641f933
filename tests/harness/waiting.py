"""Waits on conditions, so that no test sleeps for luck (deploy/waiting.py)."""

from deploy.waiting import DEFAULT_TIMEOUT_S as DEFAULT_TIMEOUT_S
from deploy.waiting import free_port as free_port
from deploy.waiting import wait_for as wait_for
