"""What changes is told to a real receiver: signed, in order, at least once, whatever dies in between."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook

from sandbox.kubernetes.objects import condition, has
from sandbox.operator_process import NAMESPACE
from tests.engine.operators import until
from tests.engine.receiver import Receiver, trusted_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.azure.process import AzureProcess
    from tests.engine.world import World

SOON = {"drift_check_interval": 2, "key_check_interval": 1, "identity_check_interval": 2}
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KEY = "cmk"


@pytest.fixture(scope="module")
def certificates(azure: AzureProcess, directory: Path) -> Path:
    return trusted_certificate(directory, Path(azure.env["SSL_CERT_FILE"]))


@pytest.fixture
def receiver(certificates: Path) -> Iterator[Receiver]:
    running = Receiver(certificates)
    running.open()
    yield running
    running.close()


async def ready(world: World, receiver: Receiver | None, **notifications: Any) -> str:
    """One account that is Ready on the key, and a tenant that tells `receiver` of it; the name of the resource."""
    world.operator.stop()  # so that the next one trusts the receiver's authority
    await world.operator.start(**SOON)
    await world.foundation()
    if receiver is not None:
        await world.environment.apply_tenant(notifications={"sink": receiver.url, **notifications})
    (name,) = await world.accounts()
    await world.apply([name])
    await world.until_ready([name])
    return name


async def told(world: World, kind: str, name: str) -> dict[str, Any]:
    """What the status of an object says of its events."""
    found = await world.environment.objects.get(kind, name, world.environment.namespace)
    notifications: dict[str, Any] = found["status"].get("notifications", {})
    return notifications


async def tenant_until(world: World, what: str, status: str, reason: str) -> str:
    seen = await world.environment.objects.until(
        what, "CustomerTenant", world.environment.name, has("NotificationsDelivered", status, reason)
    )
    assert has("ConsentGranted")(seen), "a receiver's trouble is nobody else's"
    message: str = condition(seen, "NotificationsDelivered")["message"]
    assert "code=" not in message, "a sink's query may hold a credential"
    return message


async def pending(world: World, kind: str, name: str, *types: str) -> None:
    async def waits() -> bool:
        waiting = (await told(world, kind, name)).get("pending", [])
        return [entry["type"].removeprefix("dev.cmk-operator.") for entry in waiting] == list(types)

    await until(f"{kind} {name} has {types} to tell", waits)


async def test_active_encryption_is_told_once_signed_and_as_a_cloud_event(world: World, receiver: Receiver) -> None:
    secret = {"metadata": {"name": "webhook"}, "stringData": {"secret": f"{SECRET}\n"}}
    await world.environment.objects.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret)
    name = await ready(world, receiver, secretRef={"name": "webhook", "key": "secret"})
    await until("an event", lambda: receiver.types(name))
    await tenant_until(world, "delivered", "True", "Delivered")
    record = await world.environment.objects.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps")
    assert "not-for-anybody" not in json.dumps(record), "a sink's query may hold a credential"
    assert not world.operator.lines(containing="not-for-anybody")
    await pending(world, "EncryptedResource", name)
    [posted] = [one for one in receiver.taken if one.event.get_type() == "dev.cmk-operator.encryption.active"]
    Webhook(SECRET).verify(posted.body, dict(posted.headers))
    assert posted.path == "/events?code=a%2Fb%20not-for-anybody", "to the letter: a query may be signed"
    event, resource = posted.event, await world.resource(name)
    assert event.get_subject() == world.environment.accounts[name]
    assert event.get_id() == posted.headers["webhook-id"] == f"{resource['metadata']['uid']}.1"
    data: Any = event.get_data()
    assert data["tenant"] == world.environment.name
    assert f"{data['keyUri']}/{data['keyVersion']}" == resource["status"]["applied"]["keyUri"]
    events = (
        await world.environment.objects.call("GET", f"/apis/events.k8s.io/v1/namespaces/{world.environment.namespace}/events")
    )["items"]
    seen = [one["reason"] for one in events if one["regarding"]["name"] == name]
    assert seen.count("EncryptionActive") == 1
    assert "KeyApplied" not in seen, "one event for one change"
    done = _passes(world)
    await until("two more passes", lambda: _passes(world) >= done + 2)
    assert receiver.types(name) == ["encryption.active"]


def _passes(world: World) -> float:
    return world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources", result="done")


async def test_a_receiver_that_was_down_gets_everything_once_and_in_order(world: World, receiver: Receiver) -> None:
    receiver.close()
    name = await ready(world, receiver)
    message = await tenant_until(world, "down", "False", "SinkUnreachable")
    assert "the owner of the receiver must repair it" in message
    customer, vault = world.environment.customer, world.environment.vault
    await customer.disable(vault, KEY)
    await pending(world, "CustomerManagedKey", KEY, "key.lost")
    await customer.enable(vault, KEY)
    await pending(world, "CustomerManagedKey", KEY, "key.lost", "key.restored")
    await world.until_ready([name])
    receiver.open()
    await until("all of it", lambda: len(receiver.types()) >= 3)
    await pending(world, "CustomerManagedKey", KEY)
    assert receiver.types(KEY) == ["key.lost", "key.restored"]
    assert receiver.types(name) == ["encryption.active"]
    await tenant_until(world, "up", "True", "Delivered")


async def test_killed_between_the_change_and_its_delivery_the_next_start_delivers(world: World, receiver: Receiver) -> None:
    receiver.answer, receiver.headers = 503, {"Retry-After": "600"}
    name = await ready(world, receiver)
    await pending(world, "EncryptedResource", name, "encryption.active")
    await until("a refusal", lambda: receiver.posted)
    world.operator.kill()
    receiver.answer = 200
    await world.operator.start(drift_check_interval=600, key_check_interval=600)
    await until("the delivery", lambda: receiver.types(name))
    await pending(world, "EncryptedResource", name)
    assert receiver.types(name) == ["encryption.active"]


async def test_killed_between_delivery_and_the_status_the_repetition_is_the_same(world: World, receiver: Receiver) -> None:
    receiver.answer, receiver.headers = 503, {"Retry-After": "1"}
    name = await ready(world, receiver)
    await pending(world, "EncryptedResource", name, "encryption.active")
    held = world.proxy.inject("hold", "patch", f"/encryptedresources/{name}/status")
    receiver.answer = 202
    await until("a delivery whose status is held", lambda: receiver.types(name) and held.hits)
    world.operator.kill()
    world.proxy.clear()
    await world.operator.start(**SOON)
    await until("the repetition", lambda: len(receiver.types(name)) == 2)
    await pending(world, "EncryptedResource", name)
    first, second = [one for one in receiver.taken if name in one.body]
    assert first.event.get_id() == second.event.get_id()
    assert first.body == second.body


async def test_what_is_wrong_with_a_receiver_is_named_and_stops_nothing(world: World, receiver: Receiver) -> None:
    receiver.answer, receiver.headers = 302, {"Location": "https://login.microsoftonline.com/"}
    name = await ready(world, receiver)
    message = await tenant_until(world, "redirected", "False", "SinkRedirects")
    assert "the provider's administrator must name the final address" in message
    reference = {"name": "absent", "key": "secret"}
    await world.environment.apply_tenant(notifications={"sink": receiver.url, "secretRef": reference})
    message = await tenant_until(world, "no secret", "False", "SecretNotFound")
    assert f"Secret {NAMESPACE}/absent does not exist: the provider's administrator must create it" in message
    receiver.answer, receiver.raw = 500, b"SSH-2.0-OpenSSH_9.6\r\n"
    await world.environment.apply_tenant(notifications={"sink": receiver.url})
    message = await tenant_until(world, "another protocol", "False", "SinkUnreachable")
    assert "answers something that is not HTTP" in message
    # Accepted, with a body that never ends and that nobody reads.
    receiver.answer, receiver.raw = 200, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"
    await tenant_until(world, "mended", "True", "Delivered")
    assert receiver.types(name) == ["encryption.active"]
    await world.environment.apply_tenant()
    await tenant_until(world, "none", "True", "NotConfigured")

    async def silent() -> bool:
        return not await told(world, "EncryptedResource", name)

    await until("nothing kept for a receiver that is no more", silent)
