"""What GitOps tools must conclude from an object, told without the conditions that the tools themselves go by.

Current: protected as the manifest asks. Failed: a person must act. InProgress: it ends by itself.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from cmk_operator.core.faults.missing_reference import MISSING_REFERENCES
from cmk_operator.core.faults.reason import FaultKind, Reason
from sandbox.kubernetes.gitops import argo_lua, flux_health, kstatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kubernetes.gitops import Manifest

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
ARGO_CD: Final = DEPLOY / "argocd" / "argocd-cm.yaml"
FLUX: Final = DEPLOY / "flux" / "customer.yaml"
IN_ARGO_CD: Final = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded", "Terminating": "Progressing"}
BY_PERSONS: Final = {"SupportRequest"}
"""Kinds that two persons write by hand for some hours: no repository has them, and their status has no conditions."""
NEEDED: Final = {
    "CustomerManagedKey": ("KeyAccessible", "PrerequisitesMet"),
    "CustomerTenant": ("ConsentGranted",),
    "EncryptedResource": ("Encrypted", "KeyAccessible"),
    "FederatedIdentity": ("Registered", "Authenticated"),
    "OrganizationKey": (
        *("ConfigurationAccepted", "KeyAccessible", "Serving", "CredentialValid", "RotationCurrent", "RewrapComplete"),
    ),
}
"""Conditions that are True while everything is as the manifest asks."""


def argo_cd_setting(subject: str, kind: str) -> str:
    """The setting of Argo CD for a kind: `health`, or `actions`."""
    settings: dict[str, str] = yaml.safe_load(ARGO_CD.read_text(encoding="utf-8"))["data"]
    return settings[f"resource.customizations.{subject}.cmk-operator.dev_{kind}"]


@cache
def flux_expressions() -> dict[str, dict[str, str]]:
    """The health expressions of the Flux Kustomization that is shipped, by kind."""
    checks = yaml.safe_load(FLUX.read_text(encoding="utf-8"))["spec"]["healthCheckExprs"]
    return {check.pop("kind"): check for check in checks if check.pop("apiVersion") == "cmk-operator.dev/v1alpha1"}


def broken_laws(objects: Sequence[Manifest], *, whole_messages: bool = True) -> list[str]:
    """Every sentence in which the tools are wrong about an object, or disagree; `whole_messages`: a person is named who must act."""
    said = kstatus(objects)
    found = [
        f"{answer}, but {wrong}: {_shown(one)}"
        for one, answer in zip(objects, said, strict=True)
        if (wrong := _contradiction(one, answer, whole_messages=whole_messages)) is not None
    ]
    for kind, expressions in flux_expressions().items():
        # Before an expression, Flux itself looks whether the object is being deleted.
        mine = [
            (one, answer) for one, answer in zip(objects, said, strict=True) if one["kind"] == kind and answer != "Terminating"
        ]
        by_flux = flux_health(expressions, [one for one, _ in mine])
        # So does Argo CD.
        by_argo = argo_lua(argo_cd_setting("health", kind), [one for one, _ in mine])
        for (one, answer), flux, argo in zip(mine, by_flux, by_argo, strict=True):
            if flux != answer:
                found.append(f"kstatus says {answer}, Flux's expression {flux}: {_shown(one)}")
            if argo["status"] != IN_ARGO_CD[answer] or not argo["message"]:
                found.append(f"kstatus says {answer}, Argo CD {argo}: {_shown(one)}")
    return found


def _contradiction(one: Manifest, answer: str, *, whole_messages: bool) -> str | None:
    status = one.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    if one["metadata"].get("deletionTimestamp"):
        return None if answer == "Terminating" else "it is being deleted"
    if one["kind"] in BY_PERSONS:
        return None if answer == "Current" else "nothing in its status is for tools"
    if one["kind"] != "Licence" and status.get("observedGeneration") != one["metadata"]["generation"]:
        return None if answer == "InProgress" else "the operator has not seen this manifest"
    match answer:
        case "Current":
            return None if _as_asked(one, status, conditions) else "it is not as asked"
        case "Failed":
            return _no_person_needed(one["kind"], conditions, whole_messages=whole_messages)
        case "InProgress":
            return _not_by_itself(conditions)
        case _:
            return "nobody knows this word"


def _as_asked(one: Manifest, status: dict[str, Any], conditions: dict[str, Any]) -> bool:
    if one["kind"] == "Licence":
        return True
    if one["kind"] == "Preflight":
        return status.get("result") == "Pass"
    if one["kind"] == "EncryptedResource" and one["spec"].get("mode") == "Observe" and status.get("plan") is not None:
        return True
    needed = [*NEEDED[one["kind"]], *(["DataCovered"] if one["spec"].get("requireFullCoverage") else [])]
    contested = conditions["Ready"]["reason"] == "Contested"
    federated = conditions.get("ApplicationFederated", {}).get("status") == "False"
    return all(conditions[name]["status"] == "True" for name in needed) and not contested and not federated


def _no_person_needed(kind: str, conditions: dict[str, Any], *, whole_messages: bool) -> str | None:
    stalled = conditions["Stalled"]
    reason = Reason.read(stalled["reason"])
    if reason.passes_by_itself or "Reconciling" in conditions:
        return "it ends by itself"
    names_somebody = (
        not whole_messages or kind == "Preflight" or " must " in stalled["message"] or " may " in stalled["message"]
    )
    return None if names_somebody else "nobody is named who must act"


def _not_by_itself(conditions: dict[str, Any]) -> str | None:
    waits = conditions.get("Reconciling")
    if waits is None or "Stalled" in conditions:
        return "nothing says that it goes on by itself"
    reason = Reason.read(waits["reason"])
    ends = reason.kind in {None, FaultKind.BUSY, FaultKind.INHERITED} or reason in MISSING_REFERENCES
    return None if ends else "somebody must act"


def _shown(one: Manifest) -> str:
    conditions = [
        (each["type"], each["status"], each["reason"], each["message"][:80])
        for each in one.get("status", {}).get("conditions", ())
    ]
    return f"{one['kind']} {one['metadata'].get('name')} {one['spec'].get('mode', '')} {conditions}"
