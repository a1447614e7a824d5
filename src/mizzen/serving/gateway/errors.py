"""Answers that are no success.

HttpError            what the client is told: a status and {"error": message}
├ (400 … 413)        the client's doing
├ (429, 503)         come again: with Retry-After
└ (500, 504)         ours
"""

import math


class HttpError(Exception):
    """Ends a request with this status and message. `outcome` is its name in the metrics."""

    def __init__(
        self, status: int, message: str, outcome: str, *, retry_after_s: float | None = None, allow: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.outcome = outcome
        self.headers: list[tuple[str, str]] = []
        if retry_after_s is not None:
            self.headers.append(("retry-after", str(max(1, math.ceil(retry_after_s)))))
        if allow is not None:
            self.headers.append(("allow", allow))
        if status == 401:
            self.headers.append(("www-authenticate", "Bearer"))


CANCELLED = HttpError(499, "the client left before the answer", "cancelled")
"""Never sent, since nobody is there; noted."""
INTERNAL = HttpError(500, "the gateway failed; the reason is in its log", "internal")
