"""The form of an event, its signature, and what a receiver's answer means."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from cmk_operator.answer_gate import LONGEST_RETRY_AFTER
from cmk_operator.api.notifications import PendingNotification
from cmk_operator.core.faults.fault import Fault
from cmk_operator.reconcile.notifications.cloud_event import message_for
from cmk_operator.sinks.receivers import _judge_answer
from cmk_operator.sinks.signing import Signer, UnusableSecretError
from tests.unit.samples import ACCOUNT, CUSTOMER, KEY, NOW, V1, customer_managed_key, customer_tenant, encrypted_resource

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ENTRY = PendingNotification(
    id="uid.1",
    sequence=1,
    type="dev.cmk-operator.encryption.active",
    time=NOW,
    key_uri=KEY,
    key_version=V1,
    message="Azure reports that the resource is on the key",
)


def test_an_event_is_a_cloud_event_in_structured_json() -> None:
    message = message_for(encrypted_resource(), customer_tenant(), ENTRY)
    event = from_http_event(HTTPMessage({"content-type": message.content_type}, message.body.encode()))
    assert (event.get_id(), event.get_type(), event.get_specversion()) == ("uid.1", ENTRY.type, "1.0")
    assert event.get_source() == "/apis/cmk-operator.dev/v1alpha1/namespaces/team-a/encryptedresources/data"
    assert event.get_subject() == ACCOUNT
    assert event.get_time() == NOW
    assert event.get_data() == {
        "tenant": "contoso",
        "tenantId": CUSTOMER,
        "kind": "EncryptedResource",
        "namespace": "team-a",
        "name": "data",
        "resource": ACCOUNT,
        "keyUri": KEY,
        "keyVersion": V1,
        "message": ENTRY.message,
        "sequence": 1,
    }


def test_a_keys_event_is_about_the_key() -> None:
    entry = ENTRY.model_copy(update={"type": "dev.cmk-operator.key.lost", "state": "Disabled"})
    body = json.loads(message_for(customer_managed_key(), customer_tenant(), entry).body)
    assert body["subject"] == KEY
    assert body["source"].endswith("/namespaces/team-a/customermanagedkeys/storage")
    assert body["data"]["state"] == "Disabled"
    assert "resource" not in body["data"]


def test_each_try_of_an_event_is_the_same_to_the_byte() -> None:
    assert message_for(encrypted_resource(), customer_tenant(), ENTRY) == message_for(
        encrypted_resource(), customer_tenant(), ENTRY
    )


def test_a_receiver_verifies_the_signature_with_the_library_of_the_specification() -> None:
    body = message_for(encrypted_resource(), customer_tenant(), ENTRY).body
    headers = dict(Signer(SECRET.encode()).headers("uid.1", datetime.now(UTC), body))
    Webhook(SECRET).verify(body, headers)
    for other in (body + " ", body.replace("uid.1", "uid.2")):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(other, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(bytes(32)).decode()).verify(body, headers)


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"whsec_",
        b"password",
        SECRET.removeprefix("whsec_").encode(),
        b"whsec_" + base64.b64encode(bytes(23)),
        b"whsec_" + base64.b64encode(bytes(65)),
        b"whsec_not base64 at all, but long enough to be one",
        b"\xff\xfe" * 20,
    ],
)
def test_a_secret_of_another_form_is_refused_without_a_word_of_it(secret: bytes) -> None:
    with pytest.raises(UnusableSecretError, match="openssl rand") as refused:
        Signer(secret)
    text = secret.decode("latin-1").removeprefix("whsec_")
    assert not text or text not in str(refused.value)


def test_a_secret_may_end_with_a_newline_as_files_do() -> None:
    assert Signer(f"{SECRET}\n".encode()).headers("a", NOW, "b") == Signer(SECRET.encode()).headers("a", NOW, "b")


@pytest.mark.parametrize(
    ("status", "reason", "person", "words"),
    [
        (200, None, False, ""),
        (202, None, False, ""),
        (204, None, False, ""),
        (301, "SinkRedirects", True, "the provider's administrator must name the final address"),
        (307, "SinkRedirects", True, "redirects are not followed"),
        (400, "SinkRefuses", True, "the provider's administrator must correct spec.notifications"),
        (401, "SinkRefuses", True, "owner of the receiver must accept them"),
        (404, "SinkRefuses", True, "404"),
        (410, "SinkRefuses", True, "410"),
        (415, "SinkRefuses", True, "415"),
        (408, "SinkBusy", False, "if that lasts, the owner of the receiver must repair it"),
        (429, "SinkBusy", False, "429"),
        (500, "SinkBusy", False, "500"),
        (503, "SinkBusy", False, "503"),
    ],
)
def test_an_answer_is_judged_by_who_must_act(*, status: int, reason: str | None, person: bool, words: str) -> None:
    fault = _judge_answer("hooks.example.com", status, None)
    if reason is None:
        assert fault is None
        return
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.needs_a_person) == (reason, person)
    assert words in fault.message


@pytest.mark.parametrize(
    ("header", "seconds"), [("17", 17), ("999999", LONGEST_RETRY_AFTER)], ids=["seconds", "too many seconds"]
)
def test_a_receiver_may_say_how_long_to_wait_but_not_for_ever(header: str, seconds: float) -> None:
    assert _asked_to_wait(header) == seconds


@pytest.mark.parametrize(
    ("until", "least", "most"),
    [
        (timedelta(seconds=700), 600, 700),
        (timedelta(days=2), LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (timedelta(days=-1), 0, 0),
    ],
    ids=["a date", "a date far ahead", "a date that is past"],
)
def test_a_receiver_may_say_until_when_to_wait_but_not_for_ever(until: timedelta, least: float, most: float) -> None:
    assert least <= _asked_to_wait(format_datetime(datetime.now(UTC) + until, usegmt=True)) <= most


def _asked_to_wait(header: str) -> float:
    fault = _judge_answer("hooks.example.com", 503, header)
    assert fault is not None
    assert fault.retry_after is not None
    return fault.retry_after


def test_a_retry_after_that_makes_no_sense_is_no_word_at_all() -> None:
    fault = _judge_answer("hooks.example.com", 503, "soon")
    assert fault is not None
    assert fault.retry_after is None
