"""Every operation through the running program: real tokens, real Roles, TLS, PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.keyservice.http.world import TEAM, accept, decoded, encoded

if TYPE_CHECKING:
    from tests.keyservice.http.world import ServedProcess

pytestmark = pytest.mark.cluster
SECRET = b"4111 1111 1111 1111"


async def test_what_is_encrypted_is_decrypted_with_its_context_and_with_no_other(served: ServedProcess) -> None:
    async with served.caller() as caller:
        context = {"table": "cards", "row": "7"}
        sealed = await caller.done("encrypt", plaintext=encoded(SECRET), purpose="orders", context=context)
        assert SECRET not in decoded(sealed["ciphertext"])
        assert decoded((await caller.done("decrypt", ciphertext=sealed["ciphertext"], context=context))["plaintext"]) == SECRET
        for wrong in ({}, {"table": "cards"}, {"table": "cards", "row": "8"}, {**context, "more": ""}):
            status, problem = await caller.post("decrypt", {"ciphertext": sealed["ciphertext"], "context": wrong})
            assert (status, problem["class"], problem["code"]) == (422, "Invalid", "CiphertextNotAuthentic"), wrong


async def test_a_batch_keeps_its_order_and_has_a_result_or_a_problem_for_each_item(served: ServedProcess) -> None:
    async with served.caller() as caller:
        items = [{"plaintext": encoded(b"%d" % n), "purpose": "orders", "reference": str(n)} for n in range(250)]
        sealed = (await caller.done("encrypt", items=items))["items"]
        assert [item["reference"] for item in sealed] == [str(n) for n in range(250)]
        wanted = [{"ciphertext": item["ciphertext"], "reference": item["reference"]} for item in sealed]
        wanted[7]["ciphertext"] = encoded(b"no ciphertext")
        wanted[8]["ciphertext"] = encoded(decoded(wanted[8]["ciphertext"])[:-1] + b"\0")
        answers = (await caller.done("decrypt", items=wanted))["items"]
        assert [item["reference"] for item in answers] == [str(n) for n in range(250)]
        assert [n for n, item in enumerate(answers) if "problem" in item] == [7, 8]
        assert [answers[n]["problem"]["code"] for n in (7, 8)] == ["NotACiphertext", "CiphertextNotAuthentic"]
        assert all(decoded(item["plaintext"]) == b"%d" % n for n, item in enumerate(answers) if n not in {7, 8})


async def test_reencrypt_moves_to_another_context_and_leaves_what_is_as_it_should_be(served: ServedProcess) -> None:
    async with served.caller() as caller:
        old, new = {"row": "1"}, {"row": "2"}
        sealed = (await caller.done("encrypt", plaintext=encoded(SECRET), purpose="orders", context=old))["ciphertext"]
        same = await caller.done("reencrypt", ciphertext=sealed, context=old)
        assert (same["ciphertext"], same["changed"]) == (sealed, False)
        moved = await caller.done("reencrypt", ciphertext=sealed, context=old, newContext=new)
        assert moved["changed"]
        assert "plaintext" not in moved
        answer = await caller.done("decrypt", ciphertext=moved["ciphertext"], context=new)
        assert decoded(answer["plaintext"]) == SECRET


async def test_an_index_is_equal_for_equal_values_of_a_field_alone(served: ServedProcess) -> None:
    async with served.caller() as caller:

        async def index(value: bytes, field: str = "email", purpose: str = "people") -> str:
            return str((await caller.done("index", value=encoded(value), field=field, purpose=purpose))["index"])

        first = await index(b"a@example.com")
        assert len(decoded(first)) == 32
        assert await index(b"a@example.com") == first
        others = [
            await index(b"b@example.com"),
            await index(b"a@example.com", "phone"),
            await index(b"a@example.com", purpose="x"),
        ]
        assert len({first, *others}) == 4


async def test_a_callers_own_key_is_wrapped_unwrapped_and_rewrapped(served: ServedProcess) -> None:
    async with served.caller() as caller:
        key = bytes(range(32))
        wrapped = await caller.done("wrap", key=encoded(key), purpose="files", context={"file": "1"})
        assert decoded((await caller.done("unwrap", wrappedKey=wrapped["wrappedKey"], context={"file": "1"}))["key"]) == key
        again = await caller.done("rewrap", wrappedKey=wrapped["wrappedKey"], context={"file": "1"})
        assert (again["wrappedKey"], again["changed"]) == (wrapped["wrappedKey"], False)


async def test_a_leased_data_key_comes_again_by_its_id_and_what_it_encrypted_is_decrypted_here(served: ServedProcess) -> None:
    from uuid import UUID  # noqa: PLC0415 - of no use to the other tests

    from cmk_keyservice.crypto.context import data_context  # noqa: PLC0415
    from cmk_keyservice.crypto.suites import DataKeyPrimitive, seal  # noqa: PLC0415

    async with served.caller() as caller:
        lease = await caller.done("data-keys", purpose="local")
        assert (lease["service"], lease["purpose"], lease["epoch"], lease["suite"]) == ("team-acme/orders", "local", 1, 1)
        assert 0 < lease["leaseSeconds"] <= 60
        again = await caller.done(f"data-keys/{lease['dataKeyId']}/unwrap")
        assert again["key"] == lease["key"]
        key = DataKeyPrimitive(UUID(lease["dataKeyId"]), lease["suite"], decoded(lease["key"]))
        sealed = seal(key, SECRET, data_context("acme", lease["service"], lease["purpose"], {"row": "1"}))
        answer = await caller.done("decrypt", ciphertext=encoded(sealed), context={"row": "1"})
        assert decoded(answer["plaintext"]) == SECRET


async def test_what_one_use_made_no_other_use_reads(served: ServedProcess) -> None:
    async with served.caller() as caller:
        sealed = await caller.done("encrypt", plaintext=encoded(SECRET), purpose="uses")
        wrapped = await caller.done("wrap", key=encoded(bytes(32)), purpose="uses")
        tries: list[tuple[str, dict[str, Any]]] = [
            ("unwrap", {"wrappedKey": sealed["ciphertext"]}),
            ("rewrap", {"wrappedKey": sealed["ciphertext"]}),
            ("decrypt", {"ciphertext": wrapped["wrappedKey"]}),
            ("reencrypt", {"ciphertext": wrapped["wrappedKey"]}),
            (f"data-keys/{sealed['dataKeyId']}/unwrap", {}),
            (f"data-keys/{wrapped['dataKeyId']}/unwrap", {}),
        ]
        for path, body in tries:
            status, problem = await caller.post(path, body)
            assert (status, problem["code"]) == (422, "OtherUse"), path
        for purpose in ("wrap/uses", "leased/uses", "index/uses"):
            status, _ = await caller.post("encrypt", {"plaintext": "", "purpose": purpose})
            assert status == 400, purpose


async def test_another_service_needs_the_verb_share_and_never_gets_by_without(served: ServedProcess) -> None:
    async with served.caller("orders") as orders, served.caller("sharer") as sharer, served.caller("reader") as reader:
        sealed = (await orders.done("encrypt", plaintext=encoded(SECRET), purpose="orders"))["ciphertext"]
        status, problem = await reader.post("decrypt", {"ciphertext": sealed})
        assert (status, problem["code"]) == (403, "OtherService")
        named = {"ciphertext": sealed, "service": "team-acme/orders"}
        status, problem = await reader.post("decrypt", named)
        assert (status, problem["code"]) == (403, "RightMissing")
        answers = (await reader.done("decrypt", items=[named, {"ciphertext": sealed}]))["items"]
        assert [item["problem"]["code"] for item in answers] == ["RightMissing", "OtherService"]
        assert decoded((await sharer.done("decrypt", **named))["plaintext"]) == SECRET


@pytest.mark.parametrize("organization", ["globex", "initech"])
async def test_another_organization_is_refused_in_the_same_words_whether_or_not_it_exists(
    served: ServedProcess, organization: str
) -> None:
    async with served.caller() as caller:
        body = {"plaintext": encoded(SECRET), "purpose": "orders"}
        status, problem = await caller.post("encrypt", body, organization)
        assert (status, problem["class"], problem["code"]) == (403, "Forbidden", "RightMissing")
        detail = "no Role lets ServiceAccount team-acme/orders encrypt for organization {}, or there is no such organization"
        assert problem["detail"] == detail.format(organization)


async def test_a_caller_without_a_role_or_with_another_verb_is_refused(served: ServedProcess) -> None:
    for name in ("stranger", "reader"):
        async with served.caller(name) as caller:
            status, problem = await caller.post("encrypt", {"plaintext": encoded(SECRET), "purpose": "orders"})
            assert (status, problem["class"]) == (403, "Forbidden"), name


async def test_a_token_for_another_audience_and_no_token_are_401_with_a_challenge(served: ServedProcess) -> None:
    async with served.caller() as caller:
        path = "/v1/organizations/acme/encrypt"
        for header in (f"Bearer {served.token('orders', 'another')}", "Bearer x", ""):
            async with caller.session.post(path, json={}, headers={"Authorization": header}) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert answer.content_type == "application/problem+json"
                assert (await answer.json(content_type=None))["class"] == "Unauthenticated"


async def test_a_view_only_organization_reads_and_keeps_its_data_and_brings_nothing_new_in(served: ServedProcess) -> None:
    async with served.caller() as caller:
        sealed = (await caller.done("encrypt", plaintext=encoded(SECRET), purpose="frozen"))["ciphertext"]
        wrapped = (await caller.done("wrap", key=encoded(b"k" * 32), purpose="frozen"))["wrappedKey"]
        new = [
            ("encrypt", {"plaintext": encoded(SECRET), "purpose": "frozen"}),
            ("wrap", {"key": encoded(b"k" * 32), "purpose": "frozen"}),
            ("data-keys", {"purpose": "frozen"}),
        ]
        accept(served.cluster, "acme", TEAM, "Refused")
        try:
            await caller.until_answered(*new[0], 409)
            for path, body in new:
                status, problem = await caller.post(path, body)
                assert (status, problem["class"], problem["code"], problem["retryable"]) == (409, "Frozen", "ViewOnly", False)
                assert problem["remedy"] == "The organization must renew its plan with the provider."
            assert decoded((await caller.done("decrypt", ciphertext=sealed))["plaintext"]) == SECRET
            assert decoded((await caller.done("unwrap", wrappedKey=wrapped))["key"]) == b"k" * 32
            await caller.done("reencrypt", ciphertext=sealed)
            await caller.done("rewrap", wrappedKey=wrapped)
            await caller.done("index", field="email", value=encoded(b"a@b"), purpose="frozen")
        finally:
            accept(served.cluster, "acme", TEAM)
        await caller.until_answered(*new[0], 200)
