"""What both HTTP servers do with a whole request."""

import logging
from typing import Protocol

from mizzen.serving.gateway.errors import INTERNAL, HttpError
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, Headers, Reply
from mizzen.serving.gateway.gateway import Gateway

log = logging.getLogger("mizzen.gateway")
METRICS_PATH = "/metrics"
SLOW_BODY = HttpError(408, "the body did not come in time", "slow_body")
CUT_BODY = HttpError(400, "the body did not come whole", "cut_body")
TOO_MANY_BYTES = HttpError(
    429, "the gateway holds as many bytes of requests as it may", "too_many_bytes", retry_after_s=1.0
)


class Page(Protocol):
    """A page beside the protocol's: what it answers to a client at that address."""

    def __call__(self, client: str) -> tuple[int, Headers, bytes]: ...


class Handler:
    """The gateway's face to HTTP."""

    def __init__(self, gateway: Gateway, metrics_page: Page) -> None:
        self.gateway = gateway
        self._metrics_page = metrics_page

    def handle(
        self, method: str, path: str, headers: HeaderMap, body: bytes, reply: Reply, client: str
    ) -> Exchange | None:
        """Answers, or returns the exchange that will be answered later. Never raises."""
        try:
            if path == METRICS_PATH:
                reply.response_bytes(*self._metrics_page(client))
                return None
            return self.gateway.handle(method, path, headers, body, reply)
        except Exception:
            log.exception("%s %s: a request failed for a reason that is a bug", method, path)
            self.gateway.refuse(reply, INTERNAL)
            return None

    def too_large(self, size: int, size_max: int) -> HttpError:
        """What a body of that size is answered."""
        return HttpError(413, f"body: expected at most {size_max} bytes, got {size}", "too_large")
