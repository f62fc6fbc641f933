"""What holds for all tests."""

import signal

# A shell that runs the tests in the background has told them, and so whatever they start, to ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
