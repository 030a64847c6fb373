"""The description of all paths, from the structs that read the bodies. Pure."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.gateway.admin import Operation, ReleaseOrder, SwapOrder
from hotseat.gateway.chat.body import ChatBody, TextBody
from hotseat.gateway.messages.body import CountBody, MessagesBody
from hotseat.gateway.responses.body import ResponsesBody
from hotseat.protocol.replies import SwapReport
from hotseat.protocol.version import VERSION
from hotseat.protocol.views import ModelView, ReleaseView, SessionView

_PLACE: Final = "#/components/schemas/{name}"


class PathLine(Struct, frozen=True):
    """A path with what goes in and, where a struct says it, what comes out."""

    method: str
    path: str
    says: str
    body: type[Struct] | None = None
    result: type[Struct] | None = None


LINES: Final = (
    PathLine("post", "/v1/chat/completions", "A chat, whole or as a stream.", ChatBody),
    PathLine("post", "/v1/completions", "A text goes on.", TextBody),
    PathLine("post", "/v1/messages", "A message, whole or as a stream.", MessagesBody),
    PathLine("post", "/v1/messages/count_tokens", "Tokens of a prompt.", CountBody),
    PathLine("post", "/v1/responses", "A response, whole or as a stream.", ResponsesBody),
    PathLine("post", "/v1/responses/input_tokens", "Tokens of its input."),
    PathLine("get", "/v1/responses/{response_id}", "One that was stored."),
    PathLine("delete", "/v1/responses/{response_id}", "Removes it."),
    PathLine("post", "/api/chat", "A chat in Ollama's dialect."),
    PathLine("post", "/api/generate", "A text in Ollama's dialect."),
    PathLine("post", "/api/show", "A model in Ollama's dialect."),
    PathLine("get", "/api/tags", "Models in Ollama's dialect."),
    PathLine("get", "/api/ps", "What is seated in Ollama's dialect."),
    PathLine("get", "/api/version", "The version in Ollama's dialect."),
    PathLine("post", "/v1/embeddings", "Embeddings of another server of this machine."),
    PathLine("get", "/v1/models", "Models that can be asked."),
    PathLine("get", "/v1/models/{id}", "One of them."),
    PathLine("get", "/health/live", "The process answers."),
    PathLine("get", "/health/ready", "A token can be produced."),
    PathLine("get", "/metrics", "Figures in the format of Prometheus."),
    PathLine("get", "/openapi.json", "This description."),
    PathLine("post", "/admin/models/swap", "Seats a model.", SwapOrder, SwapReport),
    PathLine("get", "/admin/models/current", "What holds the seat."),
    PathLine("get", "/admin/models/available", "All registered models.", result=ModelView),
    PathLine("post", "/admin/release", "Gives the seat up.", ReleaseOrder, ReleaseView),
    PathLine("get", "/admin/operations/{id}", "A swap under way.", result=Operation),
    PathLine("get", "/admin/sessions", "Sessions without their text.", result=SessionView),
    PathLine("delete", "/admin/sessions/{model}/{session}", "Removes a session."),
)
_OPEN: Final = frozenset({"/health/live", "/health/ready"})
_LISTED: Final = {"/admin/models/available": "models", "/admin/sessions": "sessions"}


def describe() -> dict[str, Any]:
    """The document, version 3.1."""
    kinds = [kind for line in LINES for kind in (line.body, line.result) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_PLACE)
    found = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for line in LINES:
        paths.setdefault(line.path, {})[line.method] = _operation(line, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "hotseat", "version": VERSION},
        "paths": paths,
        "security": [{"bearer": []}, {"header": []}],
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(line: PathLine, schemas: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    answered: dict[str, Any] = {"description": "Done."}
    if line.result is not None:
        schema = schemas[line.result]
        if name := _LISTED.get(line.path):
            many = {"type": "array", "items": schema}
            schema = {"type": "object", "properties": {name: many}}
        answered["content"] = {"application/json": {"schema": schema}}
    operation: dict[str, Any] = {"summary": line.says, "responses": {"200": answered}}
    if line.body is not None:
        content = {"application/json": {"schema": schemas[line.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    if line.path in _OPEN:
        operation["security"] = []
    names = [part[1:-1] for part in line.path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    return operation
