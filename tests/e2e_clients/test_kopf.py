"""A kopf operator does its work on the embedded server: create, field and delete handlers, events, finalizers."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.client import Api, Server
from tests.conformance.objects import crd, fields, schema
from tests.conformance.surroundings import CRDS, has_condition


def ticket_definition(group: str) -> dict[str, Any]:
    """The kind the scripts work on: a Ticket has a title, a priority, and a phase in its status."""
    spec = fields(["title"], title={"type": "string"}, priority={"type": "integer", "minimum": 1, "default": 3})
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": "tickets", "singular": "ticket", "kind": "Ticket", "listKind": "TicketList"}
    return crd(
        group, schema(spec, properties={"status": status}), names=names, version={"subresources": {"status": {}}}
    )


@pytest.fixture
def group(api: Api) -> Iterator[str]:
    """The group of an established Ticket kind."""
    name = f"kopf-{secrets.token_hex(4)}.example.com"
    definitions = api.resource(CRDS)
    definitions.create(ticket_definition(name))
    definitions.wait(f"tickets.{name}", lambda one: has_condition(one, "Established"))
    yield name
    definitions.delete(f"tickets.{name}")


@pytest.fixture
def operator(server: Server, place: str, group: str, tmp_path: Path) -> Iterator[Path]:
    """The operator as its users run it: `kopf run FILE`. Yields its log."""
    log = tmp_path / "operator.log"
    command = [sys.executable, "-m", "kopf", "run", f"--namespace={place}", "--standalone", "ticket_operator.py"]
    environment = os.environ | {"KUBECONFIG": str(server.kubeconfig), "TICKET_GROUP": group}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parent, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        yield log
        process.terminate()
        process.wait(20)


def test_a_ticket_from_open_to_closed(api: Api, place: str, group: str, operator: Path) -> None:
    """Created: child, event, status, finalizer. Changed: the child follows. Deleted: the handler runs, then it goes."""
    tickets = api.resource(f"{group}/v1/tickets", place)
    maps = api.resource("configmaps", place)
    ticket = {"apiVersion": f"{group}/v1", "kind": "Ticket", "metadata": {"name": "one"}, "spec": {"title": "broken"}}
    uid = tickets.create(ticket)["metadata"]["uid"]
    opened = tickets.wait("one", lambda one: one.get("status", {}).get("phase") == "Open")
    assert opened["status"]["opened"] == {"child": "ticket-one"}
    assert opened["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
    child = maps.get("ticket-one")
    assert child["data"] == {"title": "broken", "priority": "3"}
    assert child["metadata"]["ownerReferences"][0]["uid"] == uid
    with api.resource("events", place).watch(fieldSelector="involvedObject.name=one") as events:
        told = events.until(lambda event: event.object["reason"] == "Opened")
    assert told.object["message"] == "Ticket one has its ConfigMap."
    tickets.patch("one", {"spec": {"priority": 1}})
    maps.wait("ticket-one", lambda one: one["data"]["priority"] == "1")
    tickets.wait("one", lambda one: one["status"]["phase"] == "Reprioritised")
    tickets.delete("one")
    tickets.wait_gone("one")
    assert maps.get("closed")["data"] == {"one": "closed"}
    assert "Traceback" not in operator.read_text()
