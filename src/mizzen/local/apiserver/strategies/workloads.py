"""Deployments, ReplicaSets and Jobs: their amounts in one form, and the selector that a Job makes for itself."""

from collections.abc import Iterable

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep
from mizzen.local.apiserver.strategies.pods import canonical_spec
from mizzen.local.apiserver.strategies.warnings import pod_warnings
from mizzen.local.apiserver.types import Json, ResourceType

_JOB_NAME, _JOB_NAME_OLD = "batch.kubernetes.io/job-name", "job-name"
_JOB_UID, _JOB_UID_OLD = "batch.kubernetes.io/controller-uid", "controller-uid"


class WorkloadStrategy(Strategy):
    """ReplicaSets, and what all workloads share."""

    generation = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        _canonical_template(obj)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        _canonical_template(obj)

    def warnings(self, obj: Json, old: Json | None) -> Iterable[str]:
        template = _template(obj)
        if old is not None and template == _template(old):
            return ()
        return pod_warnings(template.get("spec") or {}, "spec.template.spec")


class DeploymentStrategy(WorkloadStrategy):
    def spec_changed(self, obj: Json, old: Json, rtype: ResourceType) -> bool:
        """Annotations count: the controller copies them to ReplicaSets."""
        annotations, before = (one["metadata"].get("annotations") or {} for one in (obj, old))
        return super().spec_changed(obj, old, rtype) or annotations != before

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        keep(obj, old, ("spec",))
        keep(obj["metadata"], old["metadata"], ("labels",))


class JobStrategy(WorkloadStrategy):
    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        _canonical_template(obj)
        if not (obj.get("spec") or {}).get("manualSelector"):
            obj["spec"] = _with_selector(obj.get("spec") or {}, obj["metadata"])
        spec = obj["spec"]
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        spec, metadata = obj.get("spec") or {}, obj["metadata"]
        if spec.get("manualSelector"):
            if not spec.get("selector"):
                yield causes.required("spec.selector")
            return
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        for key, expected in (
            (_JOB_UID, metadata.get("uid")),
            (_JOB_UID_OLD, metadata.get("uid")),
            (_JOB_NAME, metadata.get("name")),
            (_JOB_NAME_OLD, metadata.get("name")),
        ):
            if labels.get(key) != expected:
                yield causes.invalid(
                    "spec.template.metadata.labels", labels, f"expected `{key}` to be {causes.quoted(str(expected))}"
                )
        wanted = (spec.get("selector") or {}).get("matchLabels") or {}
        if any(labels.get(key) != value for key, value in wanted.items()):
            yield causes.invalid("spec.selector", spec.get("selector"), "`selector` not auto-generated")


def _template(obj: Json) -> Json:
    return (obj.get("spec") or {}).get("template") or {}


def _canonical_template(obj: Json) -> None:
    spec = obj.get("spec") or {}
    template = spec.get("template") or {}
    if isinstance(template.get("spec"), dict):
        obj["spec"] = {**spec, "template": {**template, "spec": canonical_spec(template["spec"])}}


def _with_selector(spec: Json, metadata: Json) -> Json:
    """The spec with labels by which the Job's Pods are its own, and a selector of them. What was given stays, for
    validation to refuse what does not fit."""
    template = spec.get("template") or {}
    inner = template.get("metadata") or {}
    name, uid = metadata.get("name"), metadata.get("uid")
    made = {_JOB_NAME_OLD: name, _JOB_NAME: name, _JOB_UID_OLD: uid, _JOB_UID: uid}
    labels = {**made, **(inner.get("labels") or {})}
    selector = spec.get("selector") or {}
    return {
        **spec,
        "template": {**template, "metadata": {**inner, "labels": labels}},
        "selector": {**selector, "matchLabels": {_JOB_UID: uid, **(selector.get("matchLabels") or {})}},
    }
