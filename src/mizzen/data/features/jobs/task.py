"""What a Pod of a feature view is told, resolved by the controller: no spec is read that may have changed since."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from mizzen.data.features.definition import Definition, definition_of
from mizzen.data.features.pointintime import Use
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.kinds.features import FeatureView
from mizzen.kinds.meta import Wire


class ViewAt(Wire):
    """A view, and the version of its source's table to read."""

    view: FeatureView
    source_version: int

    @property
    def dataset(self) -> str:
        """The source's table."""
        return self.view.spec.source.dataset or ""

    def source(self, store: Store) -> TableVersion:
        """Raises `VersionMissing` where retention has taken it."""
        return Table(store, self.view.namespace, self.dataset).at(self.source_version)


class MaterialiseTask(Wire):
    """All that the Pod needs that brings a view online."""

    namespace: str
    name: str
    """The view's."""
    run: str
    store_url: str
    online_url: str | None = None
    """The online store; absent where there is none."""
    online: bool = True
    """Whether the view is kept online; else it is only checked against its source, and records it has are removed."""
    target: ViewAt
    """The view, and the version of its source to bring it to."""
    uses: list[ViewAt] = Field(default_factory=list)
    """The views it builds upon, and those that they do."""
    parts: int = 1
    """How many Pods fill it the first time, each for its share of the entities."""


class RemoveTask(Wire):
    """All that the Pod needs that takes a view's records away."""

    namespace: str
    name: str
    run: str
    online_url: str


def digests(views: Mapping[str, FeatureView], name: str) -> dict[str, str]:
    """The digests of the views that one uses, by name."""
    spec = views[name].spec
    return {used: views[used].spec.digest(digests(views, used)) for used in spec.uses if used in views}


def use_of(wanted: ViewAt, others: Sequence[ViewAt], store: Store) -> Use:
    """A view with its source and with those of the views it uses, for joins.

    Raises `DefinitionError`, `LakeError`.
    """
    by_name = {other.view.name: other for other in others}
    views = {name: other.view for name, other in by_name.items()}

    def made(at: ViewAt, keys: Mapping[str, str]) -> Use:
        definition = definition_of(at.view, digests({**views, at.view.name: at.view}, at.view.name))
        columns = {key.name: key.column for key in definition.keys}
        used = tuple(made(by_name[name], columns) for name in at.view.spec.uses if name in by_name)
        return Use(definition, at.source(store), keys=shared_keys(definition, keys), others=used)

    return made(wanted, {})


def shared_keys(definition: Definition, columns: Mapping[str, str]) -> dict[str, str]:
    """Where the rows that a used view is joined with hold its keys: under the column of the key of the same name."""
    return {key.name: columns[key.name] for key in definition.keys if key.name in columns}
