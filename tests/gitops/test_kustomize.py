"""kustomize changes names of objects and puts in variables: each reference follows, and each text can hold one."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes import binaries
from tests.gitops.law import BY_PERSONS, DEPLOY
from tests.gitops.test_health import definitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.kubernetes.gitops import Manifest

CONFIGURATION = DEPLOY / "kustomize"
TARGETS = {
    "keyRef": "CustomerManagedKey",
    "tenantRef": "CustomerTenant",
    "identityRef": "FederatedIdentity",
    "secretRef": "Secret",
    "privateKeySecretRef": "Secret",
}
PLANNED = {
    ("Preflight", "spec/keys/name"): "CustomerManagedKey",
    ("Preflight", "spec/resources/name"): "EncryptedResource",
    ("Preflight", "spec/organizationKeys/name"): "OrganizationKey",
}
NAMESPACES = {
    ("CustomerTenant", "spec/allowedNamespaces"): "Namespace",
    ("CustomerTenant", "spec/notifications/secretRef/namespace"): "Namespace",
}


def texts(kind: str, schema: Manifest, path: str = "spec") -> Iterator[tuple[str, str]]:
    """Every field that holds text of the user's own, as kustomize names its path."""
    if schema.get("type") == "string" and "enum" not in schema:
        yield kind, path
    for name, field in schema.get("properties", {}).items():
        yield from texts(kind, field, f"{path}/{name}")
    if isinstance(schema.get("items"), dict):
        yield from texts(kind, schema["items"], path)


def every_text() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for definition in definitions():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        found |= set(texts(definition["spec"]["names"]["kind"], schema))
    return found


def configured(name: str) -> Any:
    return yaml.safe_load((CONFIGURATION / f"{name}.yaml").read_text(encoding="utf-8"))


def references() -> dict[tuple[str, str], str]:
    """What each field names, as the configuration says."""
    groups = configured("references")["nameReference"]
    return {(field["kind"], field["path"]): group["kind"] for group in groups for field in group["fieldSpecs"]}


def test_every_reference_of_every_definition_is_configured_and_nothing_else() -> None:
    by_name = {(kind, path): TARGETS[path.split("/")[-2]] for kind, path in every_text() if path.endswith("Ref/name")}
    assert references() == by_name | PLANNED | NAMESPACES


def test_every_other_text_may_hold_a_variable() -> None:
    configured_texts = {(field["kind"], field["path"]) for field in configured("variables")["varReference"]}
    assert configured_texts == {one for one in every_text() - set(references()) if one[0] not in {"Preflight", *BY_PERSONS}}


def built(directory: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    command = [str(binaries.kubectl()), "kustomize", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def nested(path: str, value: str) -> Manifest:
    """A spec with one field; a field on the way that is a list in the definition is one here."""
    head, _, rest = path.partition("/")
    inner: Any = nested(rest, value) if rest else value
    return {head: [inner] if head in {"keys", "resources", "organizationKeys", "credentials", "allowedNamespaces"} else inner}


def value_at(found: Any, path: str) -> Any:
    for name in path.split("/"):
        found = found[name]
        found = found[0] if isinstance(found, list) else found
    return found


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """One object for each reference, under an overlay that renames everything."""
    directory = tmp_path_factory.mktemp("kustomize")
    shutil.copytree(CONFIGURATION, directory / "names")
    objects: list[Manifest] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "it"}}]
    kinds = ("FederatedIdentity", "CustomerTenant", "CustomerManagedKey", "EncryptedResource", "OrganizationKey")
    objects += [{"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": {"name": "it"}} for kind in kinds]
    for number, (kind, path) in enumerate(references()):
        named = nested(path.removeprefix("spec/"), "it")
        objects.append({**objects[1], "kind": kind, "metadata": {"name": f"refers-{number}"}, "spec": named})
    spec = {"tenantRef": {"name": "elsewhere"}, "keyUri": "https://$(VAULT).vault.azure.net/keys/cmk"}
    objects.append({**objects[1], "kind": "CustomerManagedKey", "metadata": {"name": "foreign"}, "spec": spec})
    base = directory / "base"
    base.mkdir()
    (base / "objects.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    variable = {"objref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "values"}, "fieldref": {"fieldpath": "data.vault"}}
    write(
        base,
        resources=["objects.yaml"],
        components=["../names"],
        secretGenerator=[{"name": "it", "literals": ["certificate=x"]}],
        configMapGenerator=[{"name": "values", "literals": ["vault=fabrikam-kv"]}],
        vars=[{"name": "VAULT", **variable}],
    )
    write(directory / "overlay", resources=["../base"], namePrefix="first-", nameSuffix="-eu", namespace="fabrikam")
    return built(directory / "overlay")


def write(directory: Path, **content: Any) -> None:
    directory.mkdir(exist_ok=True)
    whole = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")


def test_each_reference_follows_the_name_of_what_it_names(overlay: list[Manifest]) -> None:
    names = {one["kind"]: one["metadata"]["name"] for one in overlay if "spec" not in one}
    assert names["Namespace"] == "fabrikam"
    assert names["Secret"].startswith("first-it-eu-"), "with the hash of its content"
    for number, ((_, path), target) in enumerate(references().items()):
        (found,) = (one for one in overlay if one["metadata"]["name"] == f"first-refers-{number}-eu")
        assert value_at(found, path) == names[target], path


def test_what_is_named_and_not_in_the_build_keeps_its_name_and_variables_are_put_in(overlay: list[Manifest]) -> None:
    (found,) = (one for one in overlay if one["metadata"]["name"] == "first-foreign-eu")
    assert found["spec"] == {"tenantRef": {"name": "elsewhere"}, "keyUri": "https://fabrikam-kv.vault.azure.net/keys/cmk"}
