"""What a server's answer means to the caller, the same over gRPC and REST.

`ValueError`: the request is wrong, and sending it again would not help; `NotServed`, one of them: the server has no
such model or version. `Unavailable`, a ConnectionError: the server
could not be reached or is too busy, which is all that is tried again. `TimeoutError`: the time was up; the server may
still be at work, so that another attempt would only add to its load. Any other `OSError`: the server failed.
"""

import re

_NOISE = re.compile(r"^(Graph execution error:|Detected at node .*|<stack traces unavailable>|\[\[\{\{node .*)$")


class NotServed(ValueError):
    """The server has no such model or version."""


class Unavailable(ConnectionError):
    """The server can't be reached or is too busy. `retry_after`: seconds it asks to wait, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def reason(text: str) -> str:
    """A server's error message to the part that a caller understands.

    >>> reason("assertion failed: [image_bytes[1] is empty: it has 0 bytes]\\\\n\\\\t [[{{node Assert/Assert}}]]")
    'image_bytes[1] is empty: it has 0 bytes'
    """
    text = str(text).replace("\\n", "\n").replace("\\t", "\t")
    asserted = re.search(r"assertion failed: \[(.*)\]", text)
    if asserted:
        return asserted[1]
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not _NOISE.match(line)) or "no reason was given"
