"""Which fields and values a kind has: by the models of this version, and by the definition that a cluster serves.

An API server drops fields that its definition lacks without an error, and refuses values that it lacks. So an operator, or a
`kubectl cmk`, that does not fit the installed definitions must say so.
Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", field pruning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from cmk_operator.api.model import GROUP, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cmk_operator.api.model import Shape

DOCUMENT: Final = f"/openapi/v3/apis/{GROUP}/{VERSION}"
"""Path of the API server's own description of all kinds; every signed-in account may read it (ClusterRole system:discovery)."""
_PARTS: Final = ("spec", "status")
_OPEN: Final = ".*"
"""Behind a field that may have any fields below it."""
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """What the served definition of a kind has less or more than the model, as paths; values stand behind `=`."""

    plural: str
    lacks: tuple[str, ...]
    adds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.plural}.{GROUP}"


def differences(document: Mapping[str, Any], models: Iterable[type[Shape]]) -> tuple[Difference, ...]:
    """Compare the kinds that a cluster serves with the models; kinds that it does not serve are left out."""
    served = {
        kind.get("kind"): schema
        for schema in document.get("components", {}).get("schemas", {}).values()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    found = []
    for model in models:
        if model.__name__ in served:
            own, theirs = known_fields(model), served_fields(served[model.__name__], model)
            if own != theirs:
                found.append(Difference(_plural(model), tuple(sorted(own - theirs)), tuple(sorted(theirs - own))))
    return tuple(found)


def listed(paths: tuple[str, ...]) -> str:
    """The first few paths, and how many more there are."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(paths[:_SHOWN])}{more}"


def known_fields(model: type[Shape]) -> frozenset[str]:
    """The fields and values of a model, below spec and status."""
    return frozenset(path for path in _of_model(model) if not path.endswith(_OPEN))


def served_fields(schema: Mapping[str, Any], model: type[Shape]) -> frozenset[str]:
    """The fields and values of a served schema; below a field that the model leaves open, nothing counts."""
    open_fields = tuple(path.removesuffix(_OPEN) + "." for path in _of_model(model) if path.endswith(_OPEN))
    properties = schema.get("properties", {})
    found = (path for part in _PARTS if part in properties for path in _of_schema(properties[part], part))
    return frozenset(path for path in found if not path.startswith(open_fields))


def _plural(model: type[Shape]) -> str:
    plural: str = vars(model)["plural"]
    return plural


def _of_model(model: type[Shape]) -> Iterator[str]:
    for part in _PARTS:
        if part in model.model_fields:
            yield from _of_field(model, part, part)


def _of_field(model: type[BaseModel], name: str, path: str) -> Iterator[str]:
    yield path
    yield from _of_type(model.model_fields[name].annotation, path)


def _of_type(annotation: object, path: str) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from _of_field(annotation, name, f"{path}.{field.alias or name}")
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (f"{path}={member.value}" for member in annotation)
    elif get_origin(annotation) is Literal:
        yield from (f"{path}={value}" for value in get_args(annotation))
    elif get_origin(annotation) is dict and get_args(annotation)[1] is Any:
        yield f"{path}{_OPEN}"
    else:
        for argument in get_args(annotation):
            yield from _of_type(argument, path)


def _of_schema(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    yield path
    yield from (f"{path}={value}" for value in schema.get("enum", ()) if value is not None)
    for name, inner in schema.get("properties", {}).items():
        yield from _of_schema(inner, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from _of_schema(schema[word], path)
