"""The controllers put together: one runtime, whatever control plane it is given.

Two of these against one control plane take turns by a Lease, so that a standby is ready when the leader dies.
"""

import os
import socket
from collections.abc import Sequence

from mizzen.controllers.batchprediction.controller import BatchPredictionController
from mizzen.controllers.dataset.controller import DatasetController
from mizzen.controllers.endpoint.controller import EndpointController
from mizzen.controllers.featureview.auditing import AuditController
from mizzen.controllers.featureview.controller import FeatureViewController
from mizzen.controllers.featureview.functions import FunctionsController
from mizzen.controllers.model.controller import ModelController
from mizzen.controllers.platform import Platform
from mizzen.controllers.scaling.controller import ScalingController
from mizzen.controllers.scaling.density import DensityController
from mizzen.controllers.trainingjob.controller import TrainingJobController
from mizzen.kinds.names import SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informers
from mizzen.kube.leases import Election
from mizzen.kube.metrics import Registry
from mizzen.kube.runtime import Controller, Runtime

COMPONENT = "mizzen-controllers"


def controllers_of(platform: Platform, listen: str | None = None) -> Sequence[Controller]:
    """Every controller, in the order of the kinds they make true."""
    scaling = ScalingController(platform, listen)
    return (
        DatasetController(platform),
        FeatureViewController(platform),
        FunctionsController(platform),
        AuditController(platform),
        TrainingJobController(platform),
        ModelController(platform),
        EndpointController(platform),
        scaling,
        DensityController(platform, scaling),
        BatchPredictionController(platform),
    )


def runtime_of(
    client: Client, *, elect: bool = True, metrics: Registry | None = None, listen: str | None = None
) -> Runtime:
    """The runtime of all our controllers. With `elect`, it works only while it holds the Lease. `listen`: where
    gateways report to, `unix:/path` or `host:port`.
    """
    informers = Informers(client)
    recorder = Recorder(client, COMPONENT)
    controllers = controllers_of(Platform(client, informers, recorder), listen)
    identity = f"{socket.gethostname()}-{os.getpid()}"
    election = Election(client, COMPONENT, SYSTEM_NAMESPACE, identity) if elect else None
    return Runtime(informers, controllers, recorder=recorder, election=election, metrics=metrics)
