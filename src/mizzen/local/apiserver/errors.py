"""Errors as Kubernetes words them: each carries the `Status` object that the client gets.

ApiError
├── BadRequest 400          ├── Expired 410 (the history asked for is gone)
├── Unauthorized 401        ├── TooLarge 413
├── Forbidden 403           ├── UnsupportedMediaType 415
├── NotFound 404            ├── Invalid 422 (causes: one for each field)
├── MethodNotAllowed 405    ├── TooManyRequests 429 (retry after)
├── NotAcceptable 406       ├── InternalError 500
├── AlreadyExists 409       ├── ServiceUnavailable 503 (retry after)
├── Conflict 409            └── Timeout 504
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field: `reason` as in `metav1.CauseType`, such as `FieldValueInvalid`."""

    reason: str
    message: str
    field: str = ""


class ApiError(Exception):
    """An answer other than success. `details` follow `metav1.StatusDetails`."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"
    always_detailed: ClassVar[bool] = False
    """Whether Kubernetes sends `details` even where there is nothing in them."""

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        group: str = "",
        kind: str = "",
        uid: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_s: int = 0,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.name, self.group, self.kind, self.uid = name, group, kind, uid
        self.causes = causes
        self.retry_after_s = retry_after_s
        self.continue_token = continue_token

    def to_status(self) -> dict[str, Any]:
        """The `metav1.Status` of this error."""
        details: dict[str, Any] = {
            "name": self.name,
            "group": self.group,
            "kind": self.kind,
            "uid": self.uid,
            "causes": [
                {"reason": cause.reason, "message": cause.message} | ({"field": cause.field} if cause.field else {})
                for cause in self.causes
            ],
            "retryAfterSeconds": self.retry_after_s,
        }
        details = {key: value for key, value in details.items() if value}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": details} if details or self.always_detailed else {}),
            "code": self.code,
        }


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"
    always_detailed = True


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"
    always_detailed = True


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"
    always_detailed = True


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Expired(ApiError):
    code, reason = 410, "Expired"


class TooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"
    always_detailed = True


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"


class InsufficientStorage(ApiError):
    code, reason = 507, "InsufficientStorage"
