"""A kubelet to any API server that runs Pods as process groups."""

from mizzen.local.node.host import NodeOptions
from mizzen.local.node.machine import NodeFact, node_facts
from mizzen.local.node.node import Node, NodeStatistics
from mizzen.local.node.orphans import NodeRunningError, kill_all

__all__ = ["Node", "NodeFact", "NodeOptions", "NodeRunningError", "NodeStatistics", "kill_all", "node_facts"]
