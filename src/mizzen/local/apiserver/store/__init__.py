"""Objects and their history: in memory for readers, in SQLite for ever, one global revision for all."""

from mizzen.local.apiserver.store.collection import Collection, Subscription
from mizzen.local.apiserver.store.records import Event, Record
from mizzen.local.apiserver.store.store import Limits, Statistics, Store

__all__ = ["Collection", "Event", "Limits", "Record", "Statistics", "Store", "Subscription"]
