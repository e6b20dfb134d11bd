"""/docs: one page of plain HTML written from the OpenAPI document. It loads nothing: no script, no font, no CDN."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any

import orjson

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--page:#fff;--box:#f5f7f9;--mark:#0b62a8}
@media(prefers-color-scheme:dark){
:root{--ink:#e6e9ed;--soft:#9aa4b0;--line:#333a43;--page:#15181c;--box:#1e2329;--mark:#6cb6ff}}
body{margin:0 auto;padding:2rem 1rem 4rem;max-width:58rem;font:16px/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--page)}
h2{margin:2.5rem 0 .5rem;font-size:1.1rem;font-family:ui-monospace,monospace;overflow-wrap:anywhere}
h2 b{color:var(--mark)}p{margin:.4rem 0}a{color:var(--mark)}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;margin:.6rem 0;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}code,pre{font:.85rem/1.5 ui-monospace,monospace}
pre{background:var(--box);padding:.8rem;border-radius:6px;overflow-x:auto}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CSP = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_BOUNDS = (
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
    ("exclusiveMaximum", "<"),
    ("minLength", "length ≥"),
    ("maxLength", "length ≤"),
    ("minItems", "entries ≥"),
    ("maxItems", "entries ≤"),
    ("maxProperties", "keys ≤"),
    ("pattern", "matches"),
    ("default", "default"),
)
_SAMPLES: dict[str, dict[str, Any]] = {
    "/v1/recommend": {"user_id": "u1", "n": 10},
    "/v1/rank": {"user_id": "u1", "items": ["i1", "i2"]},
    "/v1/events": {"type": "view", "user": "u1", "item": "i1", "event_id": "e1"},
}


def docs_page(document: Mapping[str, Any], server: str) -> str:
    """The page of an OpenAPI document; its examples call the address `server`, such as `http://localhost:8000`."""
    parts = [
        _operation(path, method, operation, document, server)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p class="soft">Every route, its bounds and an example. For machines: '
        f'<a href="/openapi.json">openapi.json</a>.</p>{"".join(parts)}</body></html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any], server: str) -> str:
    rows = [
        (p["name"], p["in"], p.get("required", False), {**p["schema"], "description": p.get("description", "")})
        for p in operation.get("parameters", [])
    ]
    note, sample = "", _SAMPLES.get(path, {})
    if body := operation.get("requestBody"):
        sample = body["content"]["application/json"].get("example", sample)
        schema = _resolved(body["content"]["application/json"]["schema"], document)
        if "anyOf" in schema:
            schema = _resolved(schema["anyOf"][0], document)
            note = "<p>The body is one object, a list of such objects, or an object with that list.</p>"
        required = schema.get("required", [])
        rows += [(name, "body", name in required, part) for name, part in schema.get("properties", {}).items()]
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if needed else ''}</td><td>{place}</td>"
        f"<td>{escape(_kind(part, document))}</td>"
        f"<td>{escape(_bounds(part))}</td><td>{escape(part.get('description', ''))}</td></tr>"
        for name, place, needed, part in rows
    )
    table = f"<table><tr><th>name (* needed)<th>in<th>type<th>bounds<th></tr>{lines}</table>" if rows else ""
    answers = ", ".join(f"{code} {answer.get('description', '')}" for code, answer in operation["responses"].items())
    return (
        f"<h2><b>{method.upper()}</b> {escape(path)}</h2><p>{escape(operation.get('summary', ''))}</p>{note}{table}"
        f'<p class="soft">Answers: {escape(answers)}</p><pre>{escape(_curl(path, method, sample, server))}</pre>'
    )


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref")
    found: Mapping[str, Any] = document["components"]["schemas"][name.rsplit("/", 1)[-1]] if name else schema
    return found


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    schema = _resolved(schema, document)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one, document) for one in schema["anyOf"]))
    kind = str(schema.get("type", "any"))
    return f"list of {_kind(schema['items'], document)}" if kind == "array" and "items" in schema else kind


def _plain(bound: Any) -> Any:
    """A whole bound without the `.0` that its JSON form carries."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _bounds(schema: Mapping[str, Any]) -> str:
    found = [f"{word} {_plain(schema[key])}" for key, word in _BOUNDS if schema.get(key) not in (None, "", {}, [])]
    for one in schema.get("anyOf", []):
        found += [b for b in [_bounds(one)] if b]
    return ", ".join(dict.fromkeys(found))


def _curl(path: str, method: str, sample: Mapping[str, Any], server: str) -> str:
    at = path.replace("{user}", "u1").replace("{request_id}", "REQUEST_ID")
    if method == "get":
        return f"curl -s '{server}{at}'"
    body = orjson.dumps(sample).decode()
    verb = "" if method == "post" else f" -X {method.upper()}"
    return f"curl -s{verb} '{server}{at}' -H 'Content-Type: application/json' -d '{body}'"
