"""What arrives, verified and entered in the book. No socket, no clock."""

from collections.abc import Sequence

from hub.headend.book import Book
from hub.headend.inbox import Inbox, Received
from hub.headend.ledger import Altered


class BookIntake:
    """A hub whose key is not known may have a new one since: the book is asked."""

    def __init__(self, inbox: Inbox, book: Book) -> None:
        self._inbox, self._book = inbox, book
        inbox.read_from(book.certificates_of)

    def take_all(self, messages: Sequence[tuple[str, bytes]]) -> list[Received]:
        """Some messages `(topic, payload)`, in the order in which they came: in the book once that was committed."""
        taken = [self._inbox.receive(topic, payload) for topic, payload in messages]
        sealed = [
            (received, received.envelope, payload)
            for received, (_, payload) in zip(taken, messages)
            if not received.fault and received.envelope is not None
        ]
        entered = self._book.enter_all([(envelope, payload) for _, envelope, payload in sealed])
        for (received, _, _), found in zip(sealed, entered):
            if isinstance(found, Altered):
                received.fault = str(found)
                continue
            received.is_new = found
            if received.certificate:
                self._book.keep_certificate(received.hub, received.certificate)
        return taken
