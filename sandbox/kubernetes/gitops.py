"""What GitOps tools conclude from objects: kstatus, Flux's CEL and Argo CD's Lua, each by the library that the tool uses."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Manifest = dict[str, Any]


def kstatus(objects: Sequence[Manifest]) -> list[str]:
    """Return the status of each object: Current, InProgress, Failed or Terminating; Flux's copy of the library agrees."""
    return [str(answer["status"]) for answer in _answers([{"object": one} for one in objects])]


def flux_health(expressions: Mapping[str, str], objects: Sequence[Manifest]) -> list[str]:
    """Return what `healthCheckExprs` of a Flux Kustomization say of each object: Current, InProgress or Failed."""
    asked = [{"expressions": dict(expressions), "object": one} for one in objects]
    return [str(answer["status"]) for answer in _answers(asked)]


def argo_lua(script: str, objects: Sequence[Manifest]) -> list[Any]:
    """Return what a Lua script of Argo CD returns for each object."""
    return [answer.get("value") for answer in _answers([{"script": script, "object": one} for one in objects])]


def _answers(questions: list[Manifest]) -> list[Manifest]:
    """Raises ValueError with the first question that has no answer."""
    done = subprocess.run(
        [binaries.gitops()], input=json.dumps(questions), capture_output=True, text=True, check=True, timeout=120
    )
    answers: list[Manifest] = json.loads(done.stdout)
    for question, answer in zip(questions, answers, strict=True):
        if "error" in answer:
            raise ValueError(f"{answer['error']}: {question}")
    return answers
