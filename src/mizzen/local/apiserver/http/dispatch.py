"""From a request for a resource to the verb that answers it."""

from collections.abc import AsyncIterator, Mapping
from weakref import WeakSet

from mizzen.local.apiserver.answers import Answer, Reply, Stream
from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import Expired, MethodNotAllowed, NotFound
from mizzen.local.apiserver.http.negotiation import Representation, negotiate
from mizzen.local.apiserver.http.rendering import render, watch_encoder
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.verbs import deleting, listing, patching, watching, writing
from mizzen.local.apiserver.verbs.context import Context, Handler, Result
from mizzen.local.apiserver.verbs.watching import Frames, Watch

_PAGE_NOT_FOUND = Answer(b"404 page not found\n", 404, "text/plain; charset=utf-8")


def not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource")


class Dispatcher:
    """Chooses the verb. `handlers` answer what is not plain: `(subresource, or resource that is not kept, verb)`."""

    def __init__(self, context: Context, handlers: Mapping[tuple[str, str], Handler]) -> None:
        self._context = context
        self._frames = Frames()
        self._watches: dict[tuple[str, str], WeakSet[Watch]] = {}
        self._handlers = handlers

    async def answer(self, request: Request) -> Reply:
        target, context = request.target, self._context
        assert target is not None
        served = context.catalog.find(target.group, target.version, target.resource)
        if served is None:
            if target.group not in context.catalog.groups():
                return _PAGE_NOT_FOUND
            raise NotFound("the server could not find the requested resource")
        self._check_route(served, request)
        if served.rtype.deprecation:
            request.warn(served.rtype.deprecation)
        of_list = request.verb in {"list", "watch", "deletecollection"}
        form = negotiate(request.headers.get("accept", ""), of_list=of_list, forms=request.verb != "deletecollection")
        if request.verb == "watch" and not target.subresource:
            return self._watch(served, request, form)
        result = await self._result(served, request)
        if isinstance(result, Answer | Stream):
            return result
        return render(result, form, request.query, context.now, pretty=wants_pretty(request))  # type: ignore[arg-type]

    def _check_route(self, served: Served, request: Request) -> None:
        target, rtype = request.target, served.rtype
        assert target is not None
        of_namespaces = served.key == ("", "namespaces")
        if rtype.namespaced:
            misplaced = not target.namespace and (bool(target.name) or request.verb not in {"list", "watch", "create"})
        else:
            misplaced = bool(target.namespace) and not of_namespaces
        if misplaced or target.extra or (target.subresource and target.subresource not in rtype.subresources):
            raise NotFound("the server could not find the requested resource")
        if not target.subresource and (
            request.verb not in rtype.verbs
            or (request.verb == "create" and (target.name or (rtype.namespaced and not target.namespace)))
        ):
            raise not_allowed()

    async def _result(self, served: Served, request: Request) -> Result | Reply:
        context, target, verb = self._context, request.target, request.verb
        assert target is not None
        # A Namespace's own path names it twice: as the namespace, and as the object.
        namespace = target.namespace if served.rtype.namespaced else ""
        name = target.subresource or ("" if served.rtype.stored else target.resource)
        if name and name != "status":
            handler = self._handlers.get((name, verb))
            if handler is None:
                raise not_allowed()
            return await handler(context, served, request)
        match verb:
            case "get":
                return listing.get(context, served, namespace, target.name, request.query)
            case "list":
                return listing.list_objects(context, served, namespace, request.query)
            case "create" if not name:
                return await writing.create(context, served, request)
            case "update":
                return await writing.update(context, served, request)
            case "patch":
                return await patching.patch(context, served, request)
            case "delete" if not name:
                return await deleting.delete(context, served, request)
            case "deletecollection":
                return await deleting.delete_collection(context, served, request)
        raise not_allowed()

    def _watch(self, served: Served, request: Request, form: Representation) -> Stream:
        assert request.target is not None
        encoder = watch_encoder(served, form, request.query, self._context.now)
        try:
            watch = watching.watch(self._context, served, request.target, request.query, encoder, self._frames)
        except Expired as error:
            # As Kubernetes: the watch begins, and its only event says that it cannot go on.
            return Stream(_one_chunk(watching.error_line(error)), stop=_nothing)
        self._watches.setdefault(served.key, WeakSet()).add(watch)
        return Stream(watch.chunks(), stop=watch.stop)

    def end_watches(self, key: tuple[str, str]) -> None:
        """End the watches of a resource whose definition changed: clients begin again, with what it is now."""
        for watch in self._watches.pop(key, ()):
            watch.stop()


async def _one_chunk(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def _nothing() -> None:
    pass


def wants_pretty(request: Request) -> bool:
    """Whether JSON is to be indented: asked for, or by default for the clients that people type in."""
    if "pretty" in request.query:
        return request.query.flag("pretty")
    return request.user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))
