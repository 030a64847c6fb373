"""The description has every path that is answered, and says what goes in."""

from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.gateway.app import make_app
from hotseat.gateway.metrics import Metrics
from hotseat.gateway.openapi import describe
from hotseat.gateway.settings import GatewaySettings

UNSAID = {("get", "/")}
"""A page for people."""
REFUSED = {"embed", "embeddings", "pull", "push", "create", "copy", "delete"}
"""Of Ollama's dialect: answered with the other way to do it."""


def answered(tmp_path):
    app = make_app(AsyncClient(home=tmp_path), tmp_path, GatewaySettings(), Metrics())
    for route in app.routes:
        assert isinstance(route, Route)
        for method in route.methods - {"HEAD"}:
            if route.path.removeprefix("/api/") not in REFUSED:
                yield method.lower(), route.path.replace("{name:path}", "{id}")


def test_every_path_is_described(tmp_path):
    told = {(method, path) for path, ways in describe()["paths"].items() for method in ways}
    assert told == set(answered(tmp_path)) - UNSAID


def test_references_lead_somewhere():
    document = describe()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set()

    def walk(value):
        if isinstance(value, dict):
            found.update([value["$ref"]] if "$ref" in value else [])
        children = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            for child in children:
                walk(child)

    walk(document)
    assert found and found <= known
