"""Each kind describes itself whole, in its own folder, and without Azure's SDKs: the command line reads it too."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from cmk_operator import providers
from cmk_operator.api.customer_tenant import CustomerTenantSpec
from cmk_operator.api.encrypted_resource import EncryptedResourceSpec
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.resource_id import resource_type_of
from cmk_operator.core.kinds.kind import Kind
from cmk_operator.providers import registry
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT

HEAVY = ("aiohttp", "azure", "kopf", "msal")


def test_reading_what_kinds_there_are_imports_no_sdk() -> None:
    program = (
        "import sys, cmk_operator.providers.registry as r; assert r.KINDS; print(*{n.partition('.')[0] for n in sys.modules})"
    )
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not set(HEAVY) & set(imported)


def test_every_folder_that_describes_kinds_is_registered() -> None:
    folders = {path.parent.name for path in Path(providers.__path__[0]).glob("*/kind.py")}
    assert folders == set(registry.FOLDERS)
    assert len(registry.FOLDERS) == len(folders)


def test_a_resource_type_has_one_description_and_kinds_that_look_alike_to_people_have_one_name() -> None:
    described = [kind for folder in registry.FOLDERS for kind in import_module(f"{providers.__name__}.{folder}.kind").KINDS]
    assert all(isinstance(kind, Kind) for kind in described)
    assert len(described) == len(registry.KINDS) == len({kind.shown for kind in described})
    assert all(kind.resource_type == kind.resource_type.lower() for kind in described)


def test_a_field_that_is_for_one_kind_is_in_the_definition_that_the_api_server_knows() -> None:
    known = {field.alias or name for name, field in EncryptedResourceSpec.model_fields.items()}
    allowed = {field.alias or name for name, field in CustomerTenantSpec.model_fields.items()}
    for kind in registry.KINDS.values():
        assert kind.manifest_field is None or kind.manifest_field in known
        assert kind.identifier is None or kind.identifier.allowed_in in allowed
        assert kind.identifier is None or kind.manifest_field is not None


def test_the_key_of_an_identifier_says_its_type_however_it_is_named() -> None:
    storage = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
    assert resource_type_of(ArmId(storage).key) == "microsoft.storage/storageaccounts"
    for kind in registry.KINDS.values():
        if kind.identifier is not None:
            named = kind.identifier.read("contoso-prod")
            assert named.resource_type == resource_type_of(named.key) == kind.resource_type


@pytest.mark.parametrize("missing", ["timing", "rights", "key_use", "shown"])
def test_a_description_leaves_nothing_out_by_omission(missing: str) -> None:
    whole = {field.name: getattr(STORAGE_ACCOUNT, field.name) for field in fields(Kind)}
    assert Kind(**whole) == STORAGE_ACCOUNT
    del whole[missing]
    with pytest.raises(TypeError, match=missing):
        Kind(**whole)
