"""What can go wrong between us and an API server. The class says who may do what about it.

KubeError
├── ConfigurationError      no usable kubeconfig; names all that was tried
├── DecodeError             the server sent what the class cannot hold; names the field
└── ApiError                the server's `Status` (code, reason, message, causes)
    ├── BadRequest 400          ├── Conflict 409 (reload and try again)
    ├── Unauthorized 401        ├── Expired 410 (list again)
    ├── Forbidden 403           ├── Invalid 422 (causes: one for each field)
    ├── NotFound 404            ├── TooManyRequests 429 (retry_after_s)
    ├── AlreadyExists 409       ├── ServerError 5xx (retry_after_s)
    └── Unavailable             no answer: cannot connect, or the connection broke (`sent`: it may have been acted on)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field, as `metav1.StatusCause`."""

    reason: str
    message: str
    field: str


class KubeError(Exception):
    """The root of everything this package raises on purpose."""


class ConfigurationError(KubeError):
    """No usable kubeconfig. The message names each place that was tried and what was found there."""


class DecodeError(KubeError):
    """What the server sent does not fit the class: the server's schema is newer, older or another's."""


class ApiError(KubeError):
    """The server's answer was no success. `status` is its `metav1.Status`."""

    def __init__(self, status: Mapping[str, Any], *, request: str = "") -> None:
        self.status: dict[str, Any] = dict(status)
        self.code: int = int(status.get("code") or 0)
        self.reason: str = str(status.get("reason") or "")
        self.message: str = str(status.get("message") or self.reason or f"HTTP {self.code}")
        self.details: dict[str, Any] = dict(status.get("details") or {})
        self.request = request
        """The request that was refused: `POST /api/v1/namespaces/default/pods`."""
        super().__init__(self.message)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What is wrong, field by field; empty where the server did not say."""
        return tuple(
            Cause(str(cause.get("reason", "")), str(cause.get("message", "")), str(cause.get("field", "")))
            for cause in self.details.get("causes") or ()
        )

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks us to wait; `None` where it did not ask."""
        seconds = self.details.get("retryAfterSeconds")
        return None if seconds is None else float(seconds)


class BadRequest(ApiError):
    """400: the request itself makes no sense; sending it again will not help."""


class Unauthorized(ApiError):
    """401: the server does not know who we are."""


class Forbidden(ApiError):
    """403: we may not."""


class NotFound(ApiError):
    """404: there is no such object, or no such kind."""


class AlreadyExists(ApiError):
    """409: an object of that name is there."""


class Conflict(ApiError):
    """409: the object changed since it was read, or another field manager owns a field."""


class Expired(ApiError):
    """410: the history or list page asked for is gone; list again."""


class Invalid(ApiError):
    """422: the object breaks its schema or a rule; `causes` says where."""


class TooManyRequests(ApiError):
    """429: later; `retry_after_s` says when, if the server did."""


class ServerError(ApiError):
    """5xx: the server's fault or it is not ready."""


class Unavailable(ApiError):
    """No answer came. `sent` says whether the request may have reached the server and been acted on."""

    def __init__(self, message: str, *, sent: bool, request: str = "") -> None:
        super().__init__({"reason": "Unavailable", "message": message, "code": 0}, request=request)
        self.sent = sent


_BY_REASON: dict[str, type[ApiError]] = {
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Expired": Expired,
    "Gone": Expired,
}
_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Expired, 422: Invalid,
    429: TooManyRequests,
}  # fmt: skip


def api_error(status: Mapping[str, Any], *, request: str = "") -> ApiError:
    """The error of the class that belongs to a `Status`: by reason where one code has two, else by code."""
    code = int(status.get("code") or 0)
    fallback = ServerError if code >= 500 else ApiError
    cls = _BY_REASON.get(str(status.get("reason") or "")) or _BY_CODE.get(code, fallback)
    return cls(status, request=request)
