"""The version of the firmware, in one place: the package, `status`, the state topic and the image all read it here."""

VERSION = "0.2.0"

# October 2025: this code was written later, so a clock that says less was never set. UTC epoch milliseconds.
WRITTEN_MS = 1_760_000_000_000
