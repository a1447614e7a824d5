"""Events: what happened to an object, for people (`kubectl describe`), without ever being in anyone's way.

`Recorder.record` only puts a note in a bounded queue: it does not wait and does not raise. A task of its own writes the
notes, and `Correlator`, which is pure, decides what is worth writing:

* the same words about the same object again raise the count of the Event that is there;
* many different words of one reason about one object (10 in 10 minutes) are written as one, `(combined from similar
  events)`;
* an object that is talked about more than 25 times is held to one Event in 5 minutes.

These are the rules and, but for how much is remembered, the numbers of client-go (`tools/record/events_cache.go`).
Events are core/v1, which every kubectl reads and a server shows under events.k8s.io too.
"""

import asyncio
import copy
import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event

from mizzen.kube.client import Client
from mizzen.kube.clock import Clock, utc_now
from mizzen.kube.errors import KubeError, NotFound
from mizzen.kube.resources import info_of, meta_of
from mizzen.kube.times import format_time
from mizzen.kube.workqueue import TokenBucket

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
_SIMILAR_MAX = 10
_SIMILAR_WITHIN_S = 600.0
_BURST_PER_OBJECT = 25
_RATE_PER_OBJECT_PER_S = 1.0 / 300.0
_REMEMBERED = 512
"""client-go's is 4096, for all of a cluster's nodes; what is forgotten is told in a new Event where it comes again."""
_WAITING_MAX = 1000
_COMBINED = "(combined from similar events): "

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Subject:
    """The object an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""

    @classmethod
    def of(cls, obj: object) -> "Subject":
        info, meta = info_of(type(obj)), meta_of(obj)
        return cls(
            info.api_version, info.kind, meta.namespace or "", meta.name, meta.uid, meta.resource_version
        )  # fmt: skip

    @property
    def identity(self) -> tuple[str, ...]:
        return self.api_version, self.kind, self.namespace, self.name, self.uid


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened."""

    subject: Subject
    type: EventType
    reason: str
    message: str
    component: str = ""
    """Who speaks."""


@dataclass(frozen=True, slots=True)
class Write:
    """What to do about a note: make a new Event, or raise the count of `event_name`."""

    message: str
    count: int
    event_name: str | None
    slot: Hashable
    """What notes have in common that are counted in one Event."""


class _Recent(Generic[V]):
    """The values used last, up to a number of them."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: V) -> V:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > _REMEMBERED:
            self._values.popitem(last=False)
        return value

    def forget(self, key: Hashable) -> None:
        self._values.pop(key, None)


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    last_s: float


@dataclass(slots=True)
class _Written:
    event_name: str | None
    count: int


class Correlator:
    """Decides what becomes of a note. Knows no clock: the time is given."""

    def __init__(self) -> None:
        self._buckets: _Recent[TokenBucket] = _Recent()
        self._similar: _Recent[_Similar] = _Recent()
        self._written: _Recent[_Written] = _Recent()

    def decide(self, note: Note, now_s: float) -> Write | None:
        """`None`: the object was talked about too much."""
        combined = self._is_one_of_many(note, now_s)
        if self._is_too_much(note.subject, now_s):
            return None
        words = _COMBINED if combined else note.message
        slot = (note.component, note.subject.identity, note.type, note.reason, words)
        written = self._written.get(slot) or self._written.put(slot, _Written(None, 0))
        written.count += 1
        message = f"{_COMBINED}{note.message}" if combined else note.message
        return Write(message, written.count, written.event_name, slot)

    def wrote(self, write: Write, event_name: str) -> None:
        """The Event now has that name: later notes of the same words raise its count."""
        written = self._written.get(write.slot)
        if written is not None:
            written.event_name = event_name

    def gone(self, write: Write) -> None:
        """The Event is no longer there (Events are kept for an hour): the next note makes a new one."""
        self._written.forget(write.slot)

    def _is_one_of_many(self, note: Note, now_s: float) -> bool:
        """Whether there were too many different messages of this reason to write each."""
        key = (note.subject.identity, note.type, note.reason)
        similar = self._similar.get(key)
        if similar is None or now_s - similar.last_s > _SIMILAR_WITHIN_S:
            similar = self._similar.put(key, _Similar(set(), now_s))
        similar.last_s = now_s
        if len(similar.messages) < _SIMILAR_MAX:
            similar.messages.add(note.message)
        return note.message not in similar.messages

    def _is_too_much(self, subject: Subject, now_s: float) -> bool:
        bucket = self._buckets.get(subject.identity) or self._buckets.put(
            subject.identity, TokenBucket(_RATE_PER_OBJECT_PER_S, _BURST_PER_OBJECT)
        )
        return not bucket.try_take(now_s)


@dataclass(frozen=True, slots=True)
class RecorderStatistics:
    """What became of the notes."""

    written: int
    dropped: int
    """Too many about one object, or more than the queue holds."""
    failed: int
    waiting: int


@dataclass(slots=True)
class _Counts:
    written: int = 0
    dropped: int = 0
    failed: int = 0
    named: int = 0


class Recorder:
    """Writes Events for one component. `run` does the writing; without it, notes wait and the oldest are dropped."""

    def __init__(self, client: Client, component: str, *, clock: Clock = utc_now) -> None:
        self._client = client
        self.component = component
        self._clock = clock
        self._correlator = Correlator()
        self._notes: asyncio.Queue[Note] = asyncio.Queue(_WAITING_MAX)
        self._counts = _Counts()

    def record(self, about: object, type_: EventType, reason: str, message: str) -> None:
        """Notes what happened to an object (or `Subject`). Never waits, never raises."""
        subject = about if isinstance(about, Subject) else Subject.of(about)
        if self._notes.full():
            self._notes.get_nowait()
            self._notes.task_done()
            self._counts.dropped += 1
        self._notes.put_nowait(Note(subject, type_, reason, message[:1024], self.component))

    def speaking_as(self, component: str) -> "Recorder":
        """The same recorder, its notes in the name of another component: the queue and the task are shared."""
        other = copy.copy(self)
        other.component = component
        return other

    def normal(self, about: object, reason: str, message: str) -> None:
        """Something happened as it should."""
        self.record(about, "Normal", reason, message)

    def warning(self, about: object, reason: str, message: str) -> None:
        """Something that someone may want to do something about."""
        self.record(about, "Warning", reason, message)

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            note = await self._notes.get()
            try:
                await self._write(note)
            except KubeError as error:
                # An Event is not worth trying twice: the server has more important things to do now.
                self._counts.failed += 1
                log.debug("event %s about %s not written: %s", note.reason, note.subject.name, error)
            finally:
                self._notes.task_done()

    async def flush(self, timeout_s: float) -> None:
        """Gives `run` that long to write what waits."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._notes.join()
        except TimeoutError:
            log.info("%d events not written in time", self._notes.qsize())

    def statistics(self) -> RecorderStatistics:
        counts = self._counts
        return RecorderStatistics(counts.written, counts.dropped, counts.failed, self._notes.qsize())

    async def _write(self, note: Note) -> None:
        write = self._correlator.decide(note, asyncio.get_running_loop().time())
        if write is None:
            self._counts.dropped += 1
            return
        if write.event_name is not None:
            body = {"count": write.count, "lastTimestamp": format_time(self._clock()), "message": write.message}
            namespace = note.subject.namespace or "default"
            try:
                await self._client.patch(Event, write.event_name, body, namespace=namespace)
                self._counts.written += 1
                return
            except NotFound:
                self._correlator.gone(write)
                write = Write(write.message, 1, None, write.slot)
        event = await self._client.create(self._event(note, write))
        self._correlator.wrote(write, meta_of(event).name)
        self._counts.written += 1

    def _event(self, note: Note, write: Write) -> Event:
        now, subject = self._clock(), note.subject
        # The moment and a number of our own make the name unique, as in client-go; recorders differ by moment.
        self._counts.named += 1
        name = f"{subject.name[:220]}.{int(now.timestamp() * 1e6):x}{self._counts.named:04x}"
        return Event(
            metadata=ObjectMeta(name=name, namespace=subject.namespace or "default"),
            involvedObject=ObjectReference(
                apiVersion=subject.api_version,
                kind=subject.kind,
                namespace=subject.namespace or None,
                name=subject.name,
                uid=subject.uid or None,
                resourceVersion=subject.resource_version or None,
            ),
            type=note.type,
            reason=note.reason,
            message=write.message,
            count=write.count,
            firstTimestamp=now,
            lastTimestamp=now,
            source=EventSource(component=note.component),
            reportingComponent=note.component,
            reportingInstance="",
        )
