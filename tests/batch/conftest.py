"""The stores of the lake's tests, and a model in this process."""

from tests.data.conftest import s3, s3_endpoint

__all__ = ["s3", "s3_endpoint"]
