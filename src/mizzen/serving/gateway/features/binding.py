"""An endpoint's versions and what looks features up for them, once that is opened.

Until then no version is served, so that requests wait. What cannot be opened, or not for a version's model, is told to
them.
"""

from typing import Any

from mizzen.data.features.errors import FeatureError
from mizzen.serving.gateway.directory import Endpoint, Version
from mizzen.serving.gateway.features.source import Stage
from mizzen.serving.gateway.measures import VersionMeasures
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import Signature


class Binding:
    """Of one endpoint."""

    def __init__(self, to: Any) -> None:
        self._to = to
        """Where exchanges go from here (`stage.Onward`)."""
        self._stage: Stage | None = None
        self._bound_to: Stage | None = None
        """That with which the versions are bound."""
        self._anew = False
        self.problem: str | None = None
        """Why features cannot be looked up."""

    def opened(self, stage: Stage | None, problem: str | None) -> None:
        """From now on features are looked up so; `None`: they cannot be, for that reason, unless they are already."""
        if stage is not None:
            self._stage = stage
        self.problem = problem if self._stage is None else None

    def begin(self, old: Endpoint, new: Endpoint) -> None:
        """The endpoint is declared anew: `served` is asked for each of its versions."""
        if new.features is None:
            self._stage = self.problem = None
        self._anew = old.features != new.features or self._stage is not self._bound_to
        self._bound_to = self._stage
        if self._stage is not None:
            self.problem = None

    def served(
        self, endpoint: Endpoint, version: Version, signature: Signature, counted: VersionMeasures, old: Served | None
    ) -> Served | None:
        """The version as it is served; `None` where it cannot be, for now."""
        if old is not None and not self._anew and old.version == version and old.signature == signature:
            return old
        if endpoint.features is None:
            return Served(endpoint.name, version, signature, counted)
        if self._stage is None:
            return None
        try:
            return Served(endpoint.name, version, signature, counted, self._stage.bound(signature, self._to))
        except FeatureError as error:
            self.problem = str(error)
            return None
