"""What each of the cluster's controllers is given."""

from dataclasses import dataclass

from mizzen.kube.client import Client
from mizzen.kube.clock import Clock, utc_now
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informers


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """The way to the API server, what is known of it, a voice, and the time of day."""

    client: Client
    informers: Informers
    recorder: Recorder
    clock: Clock = utc_now
