"""The tables of docs/protocol.md are those of the types, so that page and wire cannot drift apart.

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`. Written anew on purpose:
`python tests/unit/protocol/test_protocol_doc.py --write`.
"""

import ast
import json
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import inspect as mi

from hotseat.protocol import disk_views, limits, telemetry, views
from hotseat.protocol import messages as m
from hotseat.protocol import replies as r
from hotseat.protocol.codec import CLIENT_KINDS
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.errors import ERRORS
from hotseat.protocol.model import Capabilities, TemplateProbe
from hotseat.protocol.replies import DAEMON_KINDS
from hotseat.protocol.residence import Residence, StreamedView
from hotseat.protocol.streamed_contexts import Reading
from hotseat.supervisor.ports.client_port import FEATURES

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
SUPERVISOR = PAGE.parents[1] / "supervisor" / "hotseat" / "supervisor"
TABLE = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
SHAPES = (
    Endpoint,
    m.ClientInfo,
    m.Message,
    m.Part,
    m.ToolCall,
    m.Tool,
    m.FunctionSpec,
    m.NamedTool,
    m.ResponseFormat,
    m.Sampling,
    r.WireLimits,
    r.ChunkPart,
    r.TokenLogprob,
    r.Usage,
    r.Timing,
    r.Cause,
    r.SwapPhases,
    r.SwapMemory,
    views.StatusView,
    views.WorkerView,
    views.StandbyView,
    views.GatewayView,
    views.QueueView,
    views.RequestView,
    views.MemoryView,
    views.SwapView,
    views.ModelView,
    TemplateProbe,
    Capabilities,
    views.SessionView,
    views.PlanView,
    views.FitView,
    Residence,
    Reading,
    StreamedView,
    views.ReleaseView,
    views.QuoteView,
    views.WhyView,
    views.RecoveryView,
    views.ReloadView,
    telemetry.Sample,
    telemetry.MemoryPages,
    views.TurnView,
    views.SessionChange,
    views.CountView,
    disk_views.DiskView,
    disk_views.DiskTagView,
    disk_views.KvFileView,
    disk_views.VerifyView,
    disk_views.GcView,
    views.QuarantineView,
)
NUMBERS = (
    "MAX_FRAME_BYTES",
    "MAX_FRAMES",
    "MAX_MESSAGE_BYTES",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "MAX_PLAIN_TOKENS",
    "MAX_REQUEST_ID_BYTES",
    "MAX_SESSION_NAME",
    "MAX_STOP_STRINGS",
    "MAX_LOGPROBS",
    "MAX_FORM_TOKENS",
    "BLOCK_TOKENS",
    "PING_S",
    "MISSED_PINGS",
    "PROGRESS_S",
    "WELCOME_S",
    "DEFAULT_CREDIT_BYTES",
    "SLOW_CONSUMER_BYTES",
)


def rows(head, body):
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in body)]) + "\n"


def number_range(kind, name):
    if kind.gt is not None:
        return f"{name} above {kind.gt:g}" + ("" if kind.le is None else f", at most {kind.le:g}")
    if kind.ge is None and kind.le is None:
        return name
    low = "" if kind.ge is None else f"{kind.ge:g}" if name == "number" else str(kind.ge)
    high = "" if kind.le is None else f"{kind.le:g}" if name == "number" else str(kind.le)
    high = {str(2**53 - 1): "2^53-1", str(2**32 - 1): "2^32-1"}.get(high, high)
    return f"{name} {low}..{high}"


def text_range(kind):
    if kind.pattern:
        return "string, 32 lower-case hex digits" if "32" in kind.pattern else "string"
    if kind.max_length is None:
        return "string"
    return f"string, {kind.min_length or 0}..{kind.max_length} characters"


def many(inner, kind):
    limit = "" if kind.max_length is None else f", at most {kind.max_length}"
    return f"list of {inner}{limit}"


def type_text(kind):  # noqa: PLR0911, PLR0912 - one case per kind of type
    match kind:
        case mi.IntType():
            return number_range(kind, "integer")
        case mi.FloatType():
            return number_range(kind, "number")
        case mi.StrType():
            return text_range(kind)
        case mi.BoolType():
            return "boolean"
        case mi.NoneType():
            return "null"
        case mi.AnyType():
            return "any"
        case mi.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case mi.VarTupleType(item_type=item):
            return many(type_text(item), kind)
        case mi.TupleType(item_types=items):
            return f"[{', '.join(type_text(item) for item in items)}]"
        case mi.DictType():
            return "map"
        case mi.UnionType(types=types):
            return " or ".join(type_text(part) for part in types)
        case mi.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case _:
            raise TypeError(f"no words for {kind}")


def default_text(field):
    if field.required:
        return "required"
    value = field.default
    if field.default is field.default_factory:  # UNSET is neither
        return "left out"
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    return f"`{json.dumps(value)}`"


def fields_table(cls):
    fields = mi.type_info(cls).fields
    if not fields:
        return "No fields: the body is an empty map.\n"
    return rows(
        ("field", "type", "default"),
        [(f"`{f.encode_name}`", type_text(f.type), default_text(f)) for f in fields],
    )


def first_line(cls):
    return cls.__doc__.strip().splitlines()[0]


def kinds_table(kinds):
    return rows(
        ("kind", "is"),
        [(f"[`{name}`](#{name})", first_line(cls)) for name, cls in kinds.items()],
    )


def error_table():
    return rows(
        ("code", "meaning", "retryable", "exit code", "HTTP status"),
        [
            (
                f"`{e.code}`",
                e.meaning,
                "yes" if e.retryable else "no",
                str(e.exit_code),
                str(e.http_status),
            )
            for e in ERRORS.values()
        ],
    )


def event_names():
    """What the supervisor gives to `publish` as the name of an event."""
    found = set()
    for path in SUPERVISOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_call and node.func.attr == "publish" and node.args:
                texts = [
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                assert texts, f"{path.name}:{node.lineno} publishes a name that is not written out"
                found.update(texts)
    return textwrap.fill(", ".join(f"`{name}`" for name in sorted(found)), 100) + "\n"


@cache
def tables():
    """All tables of the page by name."""
    found = {
        "limits": rows(
            ("name", "value"), [(f"`{name}`", f"{getattr(limits, name):,}") for name in NUMBERS]
        ),
        "client-kinds": kinds_table(CLIENT_KINDS),
        "daemon-kinds": kinds_table(DAEMON_KINDS),
        "features": ", ".join(f"`{name}`" for name in FEATURES) + "\n",
        "event-names": event_names(),
        "errors": error_table(),
    }
    found |= {name: fields_table(cls) for name, cls in (CLIENT_KINDS | DAEMON_KINDS).items()}
    return found | {cls.__name__: fields_table(cls) for cls in SHAPES}


def written():
    return dict(TABLE.findall(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", tables())
def test_table_of_the_page_is_that_of_the_types(name):
    assert written().get(name) == tables()[name], "run this file with --write"


def test_page_holds_no_table_that_the_types_do_not_know():
    assert set(written()) <= set(tables())


def test_every_struct_on_the_wire_has_a_table():
    """A struct that a listed one refers to is listed too."""
    named = {cls.__name__ for cls in (*CLIENT_KINDS.values(), *DAEMON_KINDS.values(), *SHAPES)}
    linked = set(re.findall(r"\]\(#([a-z]+)\)", "".join(tables().values())))
    kinds = {*CLIENT_KINDS, *DAEMON_KINDS}
    assert linked <= {name.lower() for name in named} | kinds


def test_links_of_the_tables_lead_to_headings():
    page = PAGE.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^a-z0-9_ -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings


def test_every_part_of_the_unions_is_a_kind():
    assert set(get_args(m.ClientMessage)) == set(CLIENT_KINDS.values())
    assert set(get_args(r.DaemonMessage)) == set(DAEMON_KINDS.values())


def write():
    """Puts the tables of the types into the page."""
    fresh = tables()

    def put(found):
        return f"<!-- table: {found[1]} -->\n{fresh[found[1]]}<!-- end -->"

    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(put, page), encoding="utf-8")
    missing = sorted(set(fresh) - set(written()))
    print("missing:", ", ".join(missing) or "nothing")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
