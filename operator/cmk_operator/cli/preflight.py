"""`kubectl cmk preflight`: checks manifests, stage by stage, before they are applied.

The API server checks the schema in a dry run, with the user's permissions. The rest needs the operator's identity: the command
creates a `Preflight` and deletes it once the operator has answered. It changes nothing in Azure and nothing else in the cluster.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import API_VERSION
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import console, output_option, printable, show_json
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.preflight import CheckResult, overall

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = "Schema"
CLUSTER_WIDE: Final = {model.__name__: model for model in (FederatedIdentity, CustomerTenant)}
CHECKED: Final = {
    CustomerManagedKey.__name__: "keys",
    EncryptedResource.__name__: "resources",
    OrganizationKey.__name__: "organizationKeys",
}
"""The kinds that the operator checks, each with its field in a Preflight."""
EXIT_CODES: Final = {CheckResult.PASS: 0, CheckResult.FAIL: 1, CheckResult.UNCHECKED: 2}
_STYLES: Final = {
    CheckResult.PASS: "green",
    CheckResult.WARN: "yellow",
    CheckResult.FAIL: "bold red",
    CheckResult.NOT_VISIBLE: "yellow",
    CheckResult.UNCHECKED: "bold yellow",
}


class NotCheckedError(click.ClickException):
    """Nothing could be checked; the exit code says so."""

    exit_code = EXIT_CODES[CheckResult.UNCHECKED]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One stage of one manifest, as docs/cli.md describes it."""

    kind: str
    namespace: str | None
    name: str
    stage: str
    result: CheckResult
    reason: str
    message: str
    command: str | None = None
    changes: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The manifest, for people."""
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


@dataclass(slots=True)
class Question:
    """What the operator is asked about one namespace."""

    manifests: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By their field in a Preflight."""


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="File, directory or URL, as for kubectl apply. May be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="Include subdirectories, as for kubectl apply.")
@click.option("--timeout", type=click.IntRange(min=1), default=120, show_default=True, help="Seconds to wait for the operator.")
@output_option()
@cluster_options
def preflight(cluster: Cluster, files: tuple[str, ...], timeout: int, output: str | None, *, recursive: bool) -> None:
    """Check manifests before you apply them: schema, token, consent, key, prerequisites, permissions, effect on each resource.

    Exit code 0: all pass. 1: a check failed. 2: something could not be checked.
    """
    try:
        verdicts = _verdicts(cluster, files, timeout, recursive=recursive)
    except click.UsageError:
        raise
    except click.ClickException as error:
        raise NotCheckedError(error.message) from error
    result = overall(verdict.result for verdict in verdicts)
    if output == "json":
        show_json({"result": result.value, "checks": [_data(verdict) for verdict in verdicts]})
    else:
        _show(verdicts, result)
    sys.exit(EXIT_CODES[result])


def _verdicts(cluster: Cluster, files: tuple[str, ...], timeout: int, *, recursive: bool) -> list[Verdict]:
    manifests = cluster.parsed(files, recursive=recursive)
    ours = [body for body in manifests if body.get("apiVersion") == API_VERSION and body.get("kind") in CLUSTER_WIDE | CHECKED]
    if not ours:
        raise click.UsageError("these files contain no manifest of this operator's kinds")
    verdicts: list[Verdict] = []
    questions: dict[str, Question] = {}
    for body in ours:
        judged = cluster.dry_run(body)
        verdicts.append(_schema(body, judged if isinstance(judged, str) else None))
        if isinstance(judged, str):
            continue
        if judged["kind"] in CLUSTER_WIDE:
            verdicts += _applied_yet(cluster, judged)
            continue
        question = questions.setdefault(judged["metadata"]["namespace"], Question())
        planned = {"name": judged["metadata"]["name"], "spec": judged["spec"]}
        question.manifests.setdefault(CHECKED[judged["kind"]], []).append(planned)
    for namespace, question in questions.items():
        verdicts += _ask(cluster, namespace, question, timeout)
    return verdicts


def _of(body: dict[str, Any], stage: str, result: CheckResult, reason: str, message: str) -> Verdict:
    metadata = body["metadata"]
    return Verdict(body["kind"], metadata.get("namespace"), metadata["name"], stage, result, reason, message)


def _schema(body: dict[str, Any], refusal: str | None) -> Verdict:
    if refusal is None:
        return _of(body, SCHEMA, CheckResult.PASS, "Admitted", "the API server would accept it from you")
    reason = Reason.FORBIDDEN if "(Forbidden)" in refusal else Reason.REFUSED
    return _of(body, SCHEMA, CheckResult.FAIL, reason.value, refusal)


def _applied_yet(cluster: Cluster, judged: dict[str, Any]) -> list[Verdict]:
    """Only administrators decide who may use whose keys, and only what is applied counts."""
    kind = judged["kind"]
    present = cluster.spec_of(CLUSTER_WIDE[kind].plural, judged["metadata"]["name"])
    if present == judged["spec"]:
        return []
    how = "another spec for it" if present is not None else "no object of this name"
    message = (
        f"the cluster has {how}, and the other checks use what is applied: the provider's administrator must apply it first, which "
        "moves no resource to a key"
    )
    return [_of(judged, "Admission", CheckResult.UNCHECKED, "NotApplied", message)]


def _ask(cluster: Cluster, namespace: str, question: Question, timeout: int) -> Iterable[Verdict]:
    body = {
        "apiVersion": API_VERSION,
        "kind": Preflight.__name__,
        "metadata": {"generateName": "preflight-", "namespace": namespace},
        "spec": question.manifests,
    }
    answer = Preflight.model_validate(cluster.answered(body, timeout))
    for check in answer.status.checks:
        yield Verdict(
            check.kind,
            namespace,
            check.name,
            check.stage,
            CheckResult(check.result),
            check.reason,
            check.message,
            check.command,
            check.changes,
        )


def _data(verdict: Verdict) -> dict[str, Any]:
    return {
        "kind": verdict.kind,
        "namespace": verdict.namespace,
        "name": verdict.name,
        "stage": verdict.stage,
        "result": verdict.result.value,
        "reason": verdict.reason,
        "message": verdict.message,
        "command": verdict.command,
        "changes": list(verdict.changes),
    }


def _show(verdicts: list[Verdict], result: CheckResult) -> None:
    on = console()
    for shown in dict.fromkeys(verdict.shown for verdict in verdicts):
        on.print(Text(shown, style="bold cyan"))
        for verdict in verdicts:
            if verdict.shown != shown:
                continue
            stage = f"{verdict.stage} {verdict.reason}" if verdict.stage == "Prerequisite" else verdict.stage
            line = Text(f"  {verdict.result.value:<10} ", style=_STYLES[verdict.result])
            on.print(line + Text(f"{stage}: {printable(verdict.message)}", style="default"), soft_wrap=True)
            for change in verdict.changes:
                on.print(Text(f"             {printable(change)}"), soft_wrap=True)
            if verdict.command and verdict.result is not CheckResult.PASS:
                on.print(Text(f"             {printable(verdict.command)}", style="dim"), soft_wrap=True)
    words = {
        CheckResult.PASS: "All checks pass.",
        CheckResult.FAIL: "A check failed.",
        CheckResult.UNCHECKED: "No check failed, but not everything could be checked.",
    }
    on.print(Text(words[result], style=_STYLES[result]))
