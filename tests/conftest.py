"""What holds for all tests."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import skips, witness
from tests.harness.folders import run_folder

# A shell that runs the tests in the background has told them, and so whatever they start, to ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# sbin holds sfdisk, mkfs and sshd, and is not on an ordinary user's path.
os.environ["PATH"] += ":/usr/sbin:/sbin"

# Node 22 keeps what it compiles in /tmp, where no test leaves anything.
os.environ["NODE_DISABLE_COMPILE_CACHE"] = "1"

run_folder()  # before any process is started that would want one of its own

# How long an example takes is the machine's affair, and what else it does: no promise of ours hangs on it.
settings.register_profile("meterhub", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meterhub")

_EXPECTED = skips.load(Path(__file__).with_name("expected_skips.toml"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip that nobody expects is a failure."""
    if call.when == "setup":
        witness.forget()
    report = yield
    codes = [mark.args[0] for mark in item.iter_markers("condition")]
    if report.when == "call" and report.passed and (unseen := witness.missing(codes)):
        report.outcome = "failed"
        report.longrepr = f"marked as the test of a condition: {', '.join(unseen)}"
    if report.skipped and not hasattr(report, "wasxfail"):
        _object(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file."""
    report = yield
    if report.skipped:
        _object(report, collector.nodeid)
    return report


def _object(report: pytest.TestReport | pytest.CollectReport, test: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if objection := skips.objection(_EXPECTED, test, reason.removeprefix("Skipped: ")):
        report.outcome = "failed"
        report.longrepr = objection
