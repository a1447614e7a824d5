"""Estimators as skops stores them, and which types in one nobody vouches for."""

from typing import Any

import skops.io

from mizzen.registry.errors import ConversionFailed


def dumped(model: Any) -> tuple[bytes, tuple[str, ...]]:
    """(the file, the types in it that skops does not know to be harmless, in order).

    Raises `ConversionFailed` for an estimator that skops cannot store.
    """
    try:
        data = skops.io.dumps(model)
        return data, tuple(sorted(skops.io.get_untrusted_types(data=data)))
    except Exception as error:  # it walks objects of any kind
        text = " ".join(str(error).split())
        raise ConversionFailed(
            f"{type(model).__name__}: skops cannot store it: {type(error).__name__}: {text[:300]}"
        ) from error
