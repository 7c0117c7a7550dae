"""Azure ids are compared by segment and without regard to case, and no spelling escapes a scope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from tests.unit.samples import ACCOUNT, GROUP, SUBSCRIPTION

OTHER = "77777777-7777-4777-8777-777777777777"


@pytest.mark.parametrize(
    "text", [f"/subscriptions/{SUBSCRIPTION}", GROUP, ACCOUNT, ACCOUNT.upper(), f"{ACCOUNT}/blobServices/default"]
)
def test_an_id_is_read_and_printed_as_it_was_written(text: str) -> None:
    assert str(parse_arm_id(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "storage",
        "/subscriptions",
        "/subscriptions/",
        f"subscriptions/{SUBSCRIPTION}",
        f"//subscriptions/{SUBSCRIPTION}",
        f"/subscriptions/{SUBSCRIPTION}/",
        f"/subscriptions//{SUBSCRIPTION}",
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups",
        f"/subscriptions/{SUBSCRIPTION}/groups/rg",
        f"{GROUP}/providers",
        f"{GROUP}/providers/Microsoft.Storage",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts/",
        f"{GROUP}/providers//storageAccounts/x",
        f"{GROUP}/suppliers/Microsoft.Storage/storageAccounts/x",
        f"{ACCOUNT}/blobServices",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts/..",
        f"{GROUP}/../rg-other/providers/Microsoft.Storage/storageAccounts/x",
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/..",
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/./providers/Microsoft.Storage/storageAccounts/x",
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/%2e%2e/providers/Microsoft.Storage/storageAccounts/x",
        f"{GROUP}?x=/providers/Microsoft.Storage/storageAccounts/x",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts/x#y",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts/x\n",
        f"{GROUP}\\providers/Microsoft.Storage/storageAccounts/x",
    ],
)
def test_what_is_no_resource_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArmIdError, match="is not an Azure resource id: write /subscriptions/<id>"):
        parse_arm_id(text)


def test_spelling_makes_no_other_resource() -> None:
    loud = ArmId(ACCOUNT.upper())
    assert loud == ArmId(ACCOUNT)
    assert hash(loud) == hash(ArmId(ACCOUNT))
    assert loud.key == ArmId(ACCOUNT).key


def test_the_parts_of_an_id_are_found() -> None:
    account = ArmId(ACCOUNT)
    assert account.subscription_id == SUBSCRIPTION
    assert account.resource_group == "rg-contoso"
    assert account.name == "contosodata"
    assert account.resource_type == "microsoft.storage/storageaccounts"
    assert account.shown_type == "Microsoft.Storage/storageAccounts"
    assert ArmId(GROUP).resource_type == ""
    assert ArmId(f"/subscriptions/{SUBSCRIPTION}").resource_group == ""
    assert ArmId(f"{ACCOUNT}/blobServices/default").resource_type == "microsoft.storage/storageaccounts/blobservices"


@pytest.mark.parametrize(
    ("target", "scope", "inside"),
    [
        (ACCOUNT, GROUP, True),
        (ACCOUNT, ACCOUNT, True),
        (ACCOUNT, f"/subscriptions/{SUBSCRIPTION}", True),
        (ACCOUNT.upper(), GROUP.lower(), True),
        (f"{GROUP}b/providers/Microsoft.Storage/storageAccounts/x", GROUP, False),
        (GROUP, ACCOUNT, False),
        (f"{ACCOUNT}2", ACCOUNT, False),
        (ACCOUNT, f"/subscriptions/{OTHER}", False),
        (ACCOUNT.replace("rg-contoso", "rg-c"), GROUP, False),
        (ACCOUNT.replace("rg-contoso", "rg-contos\N{FULLWIDTH LATIN SMALL LETTER O}"), GROUP, False),
    ],
)
def test_a_scope_contains_what_lies_below_it_segment_by_segment(*, target: str, scope: str, inside: bool) -> None:
    assert ArmId(target).lies_in(ArmId(scope)) is inside


def test_letters_that_only_unicode_folds_together_are_other_groups() -> None:
    with_k = "/subscriptions/s/resourceGroups/rg-k"
    with_kelvin = "/subscriptions/s/resourceGroups/rg-\N{KELVIN SIGN}"
    assert not ArmId(f"{with_kelvin}/providers/a/b/c").lies_in(ArmId(with_k))
    assert ArmId(with_k) != ArmId(with_kelvin)


segments = st.text(st.sampled_from("abAB-._1"), min_size=1, max_size=6).filter(lambda text: text not in {".", ".."})
groups = segments.map(lambda name: f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}")
accounts = st.builds(lambda group, name: f"{group}/providers/Microsoft.Storage/storageAccounts/{name}", groups, segments)


@given(accounts, groups)
def test_a_resource_lies_in_a_group_exactly_if_it_is_that_group_s(account: str, group: str) -> None:
    target, scope = parse_arm_id(account), parse_arm_id(group)
    assert target.lies_in(scope) is (target.resource_group.lower() == scope.resource_group.lower())


@given(st.one_of(accounts, groups), st.lists(st.booleans(), min_size=200, max_size=200))
def test_any_mix_of_cases_is_the_same_id(text: str, loud: list[bool]) -> None:
    mixed = "".join(letter.upper() if upper else letter.lower() for letter, upper in zip(text, loud, strict=False))
    assert ArmId(mixed) == ArmId(text)
    assert ArmId(mixed).key == ArmId(text).key


pieces = st.sampled_from(
    [
        *("/", "//", "..", ".", "/../", "subscriptions", SUBSCRIPTION, "resourceGroups", "rg-contoso", "rg-other", "providers"),
        *("Microsoft.Storage", "storageAccounts", "x", "%2f", "%2e%2e", "\\", "?", "#", " ", "\n"),
    ]
)


@given(st.lists(pieces, max_size=12).map("/".join), st.sampled_from([GROUP, f"{GROUP}/", f"/subscriptions/{SUBSCRIPTION}/"]))
def test_whatever_is_admitted_in_a_scope_still_lies_there_when_a_client_has_normalised_its_path(tail: str, head: str) -> None:
    from yarl import URL  # noqa: PLC0415 - what aiohttp makes of a path is the point here

    scope = parse_arm_id(GROUP)
    try:
        target = parse_arm_id(head + tail)
    except InvalidArmIdError:
        return
    if target.lies_in(scope):
        sent = URL(f"https://management.azure.com{target.text}").path
        assert ArmId(sent).lies_in(scope)
        assert ArmId(sent) == target
