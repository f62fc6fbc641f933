"""The version of the firmware, in one place: the package, `status`, the state topic and the image all read it here."""

VERSION = "0.1.0"
