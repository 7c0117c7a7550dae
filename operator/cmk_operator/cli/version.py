"""`kubectl cmk version`: this program, the operator and the definitions in the cluster, and whether they fit one another."""

from __future__ import annotations

from typing import Any

import click

from cmk_operator import __version__
from cmk_operator.api.fields import differences, listed
from cmk_operator.api.model import GROUP, OPERATOR_VERSION
from cmk_operator.cli.audit import NAMESPACE
from cmk_operator.cli.cluster import Cluster, cluster_options
from cmk_operator.cli.presentation import console, output_option, printable, show_json, show_lines
from cmk_operator.cli.skew import MODELS, state_of, told


@click.command()
@click.option("--operator-namespace", metavar="NAME", default=NAMESPACE, show_default=True, help="Where the operator runs.")
@output_option()
@cluster_options
def version(cluster: Cluster, operator_namespace: str, output: str | None) -> None:
    """Show the versions of this program, the operator and the cluster's definitions, and whether they fit. Needs no rights for that.

    The operator's version is in its Lease: whoever may not read Leases in its namespace is told so.
    """
    document = cluster.description()
    found = differences(document, MODELS) if not isinstance(document, str) else ()
    data = {
        "client": __version__,
        **_operators(cluster, operator_namespace),
        **_definitions(document, {str(one): one for one in found}),
    }
    warnings = [*told(found), *_unequal(data)]
    if output == "json":
        show_json(data | {"warnings": warnings})
        return
    on = console()
    show_lines(on, "Versions", _lines(data))
    show_lines(on, "Not visible", [line for line in (data["operatorsNotVisible"], data["definitionsNotVisible"]) if line])
    show_lines(on, "They do not fit", warnings, "bold yellow")


def _operators(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The processes that hold or held an operator's Lease, by class."""
    try:
        leases = cluster.leases(namespace)
    except click.ClickException as error:
        return {"operators": [], "operatorsNotVisible": f"the operator's version: {error.message}"}
    ours = [one for one in leases if (one["metadata"].get("annotations") or {}).get(OPERATOR_VERSION)]
    found = [
        {
            "lease": one["metadata"]["name"],
            "version": one["metadata"]["annotations"][OPERATOR_VERSION],
            "leader": one["spec"].get("holderIdentity") or None,
        }
        for one in ours
    ]
    none = f"no operator has written its version in namespace {namespace}: --operator-namespace names another"
    return {"operators": found, "operatorsNotVisible": None if found else none}


def _definitions(document: dict[str, Any] | str, found: dict[str, Any]) -> dict[str, Any]:
    if isinstance(document, str):
        return {"definitions": [], "definitionsNotVisible": f"the cluster's definitions: {document}"}
    listed_kinds = []
    for model in MODELS:
        name = f"{model.plural}.{GROUP}"
        difference = found.get(name)
        listed_kinds.append(
            {
                "name": name,
                "state": state_of(model.__name__, document, difference),
                "lacks": list(difference.lacks) if difference is not None else [],
                "adds": list(difference.adds) if difference is not None else [],
            }
        )
    return {"definitions": listed_kinds, "definitionsNotVisible": None}


def _unequal(data: dict[str, Any]) -> list[str]:
    return [
        f"the operator is {one['version']}, and this kubectl cmk is {data['client']}: install the kubectl cmk of the operator's release"
        for one in data["operators"]
        if one["version"] != data["client"]
    ]


def _lines(data: dict[str, Any]) -> list[str]:
    return [
        f"kubectl cmk {data['client']}",
        *(
            f"operator {printable(one['version'])} (Lease {one['lease']}: {one['leader'] or 'no leader now'})"
            for one in data["operators"]
        ),
        *(
            ": ".join(filter(None, (f"{one['name']} {one['state']}", listed((*one["lacks"], *one["adds"])))))
            for one in data["definitions"]
        ),
    ]
