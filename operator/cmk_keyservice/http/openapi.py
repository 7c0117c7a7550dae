"""The OpenAPI 3.1 document, made from the types that read the requests."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cmk_keyservice.http import bodies
from cmk_keyservice.http.operations import OPERATIONS
from cmk_keyservice.http.problems import STATUSES
from cmk_operator import __version__

_REF: Final = "#/components/schemas/{name}"
_TYPES: Final = (
    *(operation.item for operation in OPERATIONS),
    *(operation.result for operation in OPERATIONS),
    bodies.GenerateDataKey,
    bodies.UnwrapDataKey,
    bodies.LeasedDataKey,
    bodies.ProblemBody,
    bodies.Refused,
)
_ORGANIZATION: Final = {
    "name": "organization",
    "in": "path",
    "required": True,
    "description": "The id of the organization, as spec.organization.id of its OrganizationKey.",
    "schema": {"type": "string", "pattern": bodies.ORGANIZATION, "maxLength": 63},
}
_DATA_KEY: Final = {
    "name": "data_key_id",
    "in": "path",
    "required": True,
    "description": "The id of the data key, which the ciphertext carries.",
    "schema": {"type": "string", "format": "uuid"},
}

_HEALTH: Final = {
    "/healthz": "Whether the process works.",
    "/readyz": "Whether database, key rings and watch are as they should be; the answer says what is not.",
    "/readyz/traffic": "Whether callers should be sent to this replica.",
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    items = {"type": "array", "items": schema, "minItems": 1, "maxItems": bodies.MOST_ITEMS}
    return {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}


def _responses(schema: dict[str, Any], *, problems: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "Done.", "content": _json(schema)}}
    if problems:
        found |= {str(status): {"$ref": "#/components/responses/Problem"} for status in STATUSES if status != 405}
    return found


def _post(name: str, summary: str, verb: str, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "description": f"Needs the verb `{verb}` on `organizationkeys/data` of the organization's OrganizationKey.",
        "requestBody": {"required": True, "content": _json(body)},
        "responses": _responses(answer),
    }


def document() -> dict[str, Any]:
    """The whole document."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    base = "/v1/organizations/{organization}"
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        item, result = _ref(operation.item.__name__), _ref(operation.result.__name__)
        paths[f"{base}/{operation.name}"] = {
            "parameters": [_ORGANIZATION],
            "post": _post(
                operation.name,
                operation.summary,
                operation.verb,
                {"oneOf": [item, _list(item)]},
                {"oneOf": [result, _list({"oneOf": [result, _ref("Refused")]})]},
            ),
        }
    paths[f"{base}/data-keys"] = {
        "parameters": [_ORGANIZATION],
        "post": _post(
            "generateDataKey",
            "Lease the newest data key of a purpose, to encrypt with it in the caller.",
            "generatedatakey",
            _ref("GenerateDataKey"),
            _ref("LeasedDataKey"),
        ),
    }
    paths[f"{base}/data-keys/{{data_key_id}}/unwrap"] = {
        "parameters": [_ORGANIZATION, _DATA_KEY],
        "post": _post(
            "unwrapDataKey",
            "Lease the data key of a ciphertext, to decrypt it in the caller.",
            "unwrapdatakey",
            _ref("UnwrapDataKey"),
            _ref("LeasedDataKey"),
        ),
    }
    text = {"text/plain": {"schema": {"type": "string"}}}
    for path, what in (
        ("/healthz", "Whether the process works."),
        ("/readyz", "Whether it can serve; the answer says what is missing."),
    ):
        answers = {"200": {"description": "It does.", "content": text}}
        if path == "/readyz":
            answers["503"] = {"description": "It does not.", "content": text}
        paths[path] = {"get": {"operationId": path[1:], "summary": what, "security": [], "responses": answers}}
    paths["/openapi.json"] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document.",
            "security": [],
            "responses": _responses({"type": "object"}, problems=False),
        }
    }
    problem = {"application/problem+json": {"schema": _ref("ProblemBody")}}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "cmk-keyservice",
            "version": __version__,
            "description": "Encrypts and decrypts for services, under keys whose root is the organization's own key. Callers "
            "show a ServiceAccount token for the audience cmk-key-service; what they may do, Roles on organizationkeys/data say.",
        },
        "servers": [{"url": "/"}],
        "security": [{"serviceAccountToken": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": {"description": "A problem (RFC 9457).", "content": problem}},
            "securitySchemes": {"serviceAccountToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


DOCUMENT: Final = msgspec.json.encode(document())
