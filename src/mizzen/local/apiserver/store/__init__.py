"""Objects and their history: in memory for readers, in SQLite for ever, one global revision for all."""

from mizzen.local.apiserver.store.collection import Collection, Subscription
from mizzen.local.apiserver.store.records import ADDED, DELETED, MODIFIED, Event, EventType, Record, Resource
from mizzen.local.apiserver.store.store import Limits, Statistics, Store

__all__ = [
    "ADDED",
    "DELETED",
    "MODIFIED",
    "Collection",
    "Event",
    "EventType",
    "Limits",
    "Record",
    "Resource",
    "Statistics",
    "Store",
    "Subscription",
]
