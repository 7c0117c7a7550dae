"""Admission rules in the Common Expression Language, judged by the API server: no webhook can be down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule on `self`, and the API server's message to those who break it."""

    rule: str
    message: str


def validations(*rules: Rule) -> dict[str, Any]:
    """Rules as the schema extension `x-kubernetes-validations`.

    Source: Kubernetes, "Validation rules" of CustomResourceDefinitions.
    """
    return {"x-kubernetes-validations": [{"rule": rule.rule, "message": rule.message} for rule in rules]}


def first_broken(*rules: Rule) -> tuple[Rule, ...]:
    """Let each rule speak only when those before it hold, so that one mistake gets one message."""
    guarded: list[Rule] = []
    for rule in rules:
        before = " && ".join(f"({earlier.rule})" for earlier in rules[: len(guarded)])
        guarded.append(Rule(f"!({before}) || ({rule.rule})" if before else rule.rule, rule.message))
    return tuple(guarded)


def immutable(field: str) -> Rule:
    """A value that may not change once set; another value is another object."""
    return Rule("self == oldSelf", f"{field} may not change: create another object instead")
