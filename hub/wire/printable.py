"""What comes from outside, made fit to be read: in an error's text, in a log, on a terminal."""

MAX_QUOTED = 64


def quoted(value: object, most: int = MAX_QUOTED) -> str:
    """At most `most` printable ASCII characters of a text or of bytes, between quotes; of anything else its type.

    Nothing that was nested is ever formatted: a text of a few bytes may stand for gigabytes (design 3.3).
    """
    if isinstance(value, bytes):
        value = value[:most].decode("ascii", "replace") + ("" if len(value) <= most else "...")
    if isinstance(value, str):
        return f"'{plain(value, most)}'"
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return str(value)
    return f"a {type(value).__name__}"


def plain(text: str, most: int = MAX_QUOTED) -> str:
    """The printable ASCII of a text, anything else as "?"; cut at `most` characters."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in text[: most + 1])
    return shown if len(shown) <= most else shown[: max(0, most - 3)] + "..."


def one_line(text: str) -> str:
    """A text for a terminal or a log: what is not printable stands escaped, so that it moves no cursor, sets no colour,
    and forges no line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def why(error: BaseException) -> str:
    """What went wrong, in words: of the system's errors the file and the reason, without their number."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(str(error)) or type(error).__name__
