"""Questions to the server about users, and tokens for service accounts: answered, and kept nowhere."""

from collections.abc import Callable
from dataclasses import dataclass

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES
from mizzen.local.apiserver.security import reviews
from mizzen.local.apiserver.security.authn import Authenticator
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.bodies import body_of
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.options import write_options


@dataclass(frozen=True, slots=True)
class Reviews:
    """The handlers, with those who know the answers."""

    authenticator: Authenticator
    authorizer: Authorizer
    tokens: ServiceAccountTokens

    async def create(self, context: Context, served: Served, request: Request) -> One:
        """Any of the review resources."""
        assert request.target is not None
        review = body_of(request, served.rtype, write_options(request, "CreateOptions"))
        namespace, user = request.target.namespace, request.user
        sent = (review.get("metadata") or {}).get("namespace", "")
        if namespace and sent and sent != namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        if namespace:
            review["metadata"] = {**(review.get("metadata") or {}), "namespace": namespace}
        answers: dict[str, Callable[[], Json]] = {
            "tokenreviews": lambda: reviews.token_review(self.authenticator, review),
            "selfsubjectreviews": lambda: reviews.self_subject_review(user, review, context.now()),
            "subjectaccessreviews": lambda: reviews.subject_access_review(self.authorizer, review),
            "localsubjectaccessreviews": lambda: reviews.local_subject_access_review(
                self.authorizer, namespace, review
            ),
            "selfsubjectaccessreviews": lambda: reviews.self_subject_access_review(self.authorizer, user, review),
            "selfsubjectrulesreviews": lambda: reviews.self_subject_rules_review(self.authorizer, user, review),
        }
        answered = answers[served.rtype.plural]()
        answered.setdefault("metadata", {})
        return One(None, made=answered, status=201)

    async def token(self, context: Context, _served: Served, request: Request) -> One:
        """`serviceaccounts/token`."""
        assert request.target is not None
        asked = body_of(request, SUBRESOURCE_TYPES["token"], write_options(request, "CreateOptions"))
        target = request.target
        made = self.tokens.issue(target.namespace, target.name, asked, context.now())
        return One(None, made=made, status=201)
