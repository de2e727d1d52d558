"""The OpenAPI document of ``/v1``, made from the table of operations. Pure."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, TypeAdapter

from syncd.admin.api import OPERATIONS, POST, Operation
from syncd.admin.views import View

REF = "#/components/schemas/{model}"
PATH_FIELD = re.compile(r"{(\w+)}")

Document = dict[str, Any]


class Problem(View):
    """What went wrong, and what to do."""

    error: str


REFUSALS = {
    400: "The question is not one of this shape",
    401: "No token, or not the right one",
    403: "Called by a name that is not this machine's",
    404: "There is no such thing",
    409: "It can't be done as things stand",
    413: "The body is too large",
    415: "The body has to be application/json",
    429: "Too many wrong tokens: wait",
    503: "The database does not answer",
}


def path_fields(operation: Operation) -> list[str]:
    return PATH_FIELD.findall(operation.path)


def document(version: str) -> Document:
    schemas: Document = {}
    paths: Document = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    schemas["Problem"] = _schema(Problem, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "syncd", "version": version, "description": "What a person can see and do."},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: Document) -> Document:
    asked = operation.question.model_json_schema()
    fields, needed = asked.get("properties", {}), asked.get("required", [])
    schemas.update(asked.get("$defs", {}))
    in_path = path_fields(operation)
    rest = {name: _moved(schema) for name, schema in fields.items() if name not in in_path}
    told: Document = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _moved(fields[name])} for name in in_path
        ],
        "responses": {
            "200": _answer(operation.answer, schemas),
            **{str(status): _refusal(status, why) for status, why in REFUSALS.items()},
        },
    }
    if operation.method == POST:
        body = {"type": "object", "properties": rest, "additionalProperties": False}
        if required := [name for name in needed if name in rest]:
            body["required"] = required
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    else:
        told["parameters"] += [
            {"name": name, "in": "query", "required": name in needed, "schema": schema}
            for name, schema in rest.items()
        ]
    return told


def _answer(answer: Any, schemas: Document) -> Document:
    schema = TypeAdapter(answer).json_schema(ref_template=REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    if isinstance(answer, type) and issubclass(answer, BaseModel):
        schemas[answer.__name__] = schema
        schema = {"$ref": REF.format(model=answer.__name__)}
    return {"description": "Done", "content": {"application/json": {"schema": schema}}}


def _refusal(status: int, why: str) -> Document:
    content: Document = {"application/json": {"schema": {"$ref": REF.format(model="Problem")}}}
    if status == 400:  # said before anybody knows what was asked, of a line that is too long, say
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": why, "content": content}


def _schema(view: type[View], schemas: Document) -> Document:
    schema = view.model_json_schema(ref_template=REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema


def _moved(schema: Any) -> Any:
    """A reference within a model's own schema, to where the document keeps it."""
    if isinstance(schema, dict):
        return {
            name: value.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _moved(value)
            for name, value in schema.items()
        }
    return [_moved(part) for part in schema] if isinstance(schema, list) else schema
