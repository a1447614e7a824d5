"""Schemathesis asks endpoints what their own OpenAPI pages say: what the page allows is answered, what it forbids is refused.

Both as the page says: with a status that it names, and a body of the schema that it gives for that status.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.builders import doubling_model, text_model
from tests.serving.stack import Stack, eventually

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
MODELS = {"m": doubling_model, "text": text_model}
SHORT = settings(
    deadline=None, max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)  # fmt: skip
LONG = settings(SHORT, max_examples=500)
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def stack():
    with Stack() as made:
        for name, model in MODELS.items():
            digest = made.put(model())
            made.serve(digest, name)
            made.worker(digest, name)
        made.start_gateway()
        with made.client() as client:
            for name in MODELS:
                path = f"/v2/models/{name}/ready"
                eventually(lambda path=path: client.ask("GET", path).status == 200, f"{name} is ready")
        yield made


@pytest.fixture(scope="module")
def operations(stack):
    """Each operation of each endpoint's page, by its label."""
    found = {}
    with stack.client() as client:
        for name in MODELS:
            page = client.ask("GET", f"/v2/models/{name}/openapi.json").json
            schema = schemathesis.openapi.from_dict(page)
            found |= {made.ok().label: made.ok() for made in schema.get_all_operations()}
    return found


def ask(stack, operations, label, mode, data):
    """A generated request's answer, which is as the page says, and the request."""
    case = data.draw(operations[label].as_strategy(generation_mode=mode), label=label)
    answer = case.call(base_url=f"http://127.0.0.1:{stack.port}", timeout=TIMEOUT_S)
    case.validate_response(answer, checks=[
        schemathesis.checks.not_a_server_error, schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance, schemathesis.checks.response_schema_conformance,
    ])  # fmt: skip
    return answer, case


PREDICT = [f"POST /v1/endpoints/{name}:predict" for name in MODELS]
INFER = [f"POST /v2/models/{name}/infer" for name in MODELS]


def expect_answered(stack, operations, label, data):
    answer, case = ask(stack, operations, label, POSITIVE, data)
    assert answer.status_code == 200, (answer.text, case.as_curl_command())


def expect_refused(stack, operations, label, data):
    answer, case = ask(stack, operations, label, NEGATIVE, data)
    assert 400 <= answer.status_code < 500, (answer.text, case.as_curl_command())


@pytest.mark.parametrize("label", PREDICT)
@SHORT
@given(st.data())
def test_rows_that_the_page_allows_are_answered(stack, operations, label, data):
    expect_answered(stack, operations, label, data)


@pytest.mark.parametrize("label", INFER)
@SHORT
@given(st.data())
def test_tensors_that_the_page_allows_are_answered_or_refused_as_it_says(stack, operations, label, data):
    """A JSON Schema cannot say that data fits a shape."""
    ask(stack, operations, label, POSITIVE, data)


@pytest.mark.parametrize("label", PREDICT + INFER)
@SHORT
@given(st.data())
def test_what_the_page_forbids_is_refused(stack, operations, label, data):
    expect_refused(stack, operations, label, data)


@pytest.mark.slow
@pytest.mark.parametrize("label", PREDICT)
@LONG
@given(st.data())
def test_rows_that_the_page_allows_are_answered_at_length(stack, operations, label, data):
    expect_answered(stack, operations, label, data)


@pytest.mark.slow
@pytest.mark.parametrize("label", PREDICT + INFER)
@LONG
@given(st.data())
def test_what_the_page_forbids_is_refused_at_length(stack, operations, label, data):
    expect_refused(stack, operations, label, data)
