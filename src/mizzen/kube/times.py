"""Moments as Kubernetes writes them."""

from datetime import UTC, datetime


def parse_time(value: str | datetime | None) -> datetime | None:
    """A Kubernetes timestamp, with zone. Raises `ValueError` where it is none."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value)


def format_time(moment: datetime) -> str:
    """As `metav1.Time` is written: whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """As `metav1.MicroTime` is written: always six digits after the point."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
