"""A receiver's or a sink's URL may be a secret as a whole: only its host is shown, in the record, in the log and in messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cmk_operator import composition
from cmk_operator.core.audit.change import Change, Event, Subject
from cmk_operator.reconcile.audit import configuration_changed
from cmk_operator.sinks.receivers import Receivers, message_of
from tests.unit.samples import NOW, customer_tenant

if TYPE_CHECKING:
    from pathlib import Path

PART = "FAmrI7TxaQ"
URL = f"https://hooks.example:8443/services/{PART}?code={PART}"


def test_the_record_of_a_tenant_has_the_receivers_host_alone() -> None:
    tenant = customer_tenant(notifications={"sink": URL})
    wire = configuration_changed(tenant, NOW).wire()
    assert PART not in json.dumps(wire)
    assert wire["spec"]["notifications"]["sink"] == "https://hooks.example:8443"


def test_a_secret_anywhere_in_a_spec_does_not_reach_the_record() -> None:
    spec = {"a": [{"b": f"x?sig={PART}"}], "c": {"d": f"client_secret={PART}"}, "n": 1}
    change = Change("id", "", Event.CONFIGURATION_CHANGED, Subject(), "", "", "", "", target=f"sig={PART}", spec=spec)
    assert PART not in json.dumps(change.wire())
    assert change.wire()["spec"]["n"] == 1


@pytest.mark.parametrize("url", [URL.replace("8443", "1"), URL.replace("://", f"://user:{PART}@").replace("8443", "1")])
async def test_what_is_said_of_a_receiver_names_its_host_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    receivers = Receivers()
    fault = await receivers.send(
        url.replace("hooks.example", "127.0.0.1"), message_of({"id": "1", "source": "s", "type": "t"}, {}), None
    )
    await receivers.close()
    assert fault is not None
    assert "the receiver at 127.0.0.1:1 " in fault.message
    assert PART not in fault.message


async def test_a_url_that_cannot_be_read_is_a_fault_without_it() -> None:
    receivers = Receivers()
    fault = await receivers.send(f"https://[{PART}", message_of({"id": "1", "source": "s", "type": "t"}, {}), None)
    await receivers.close()
    assert fault is not None
    assert fault.reason == "SinkAddressNotUsable"
    assert PART not in fault.message


@pytest.mark.parametrize(
    ("url", "token", "words"),
    [
        (f"ftp://hooks.example/{PART}", None, "setting audit_sink_url: URL scheme should be"),
        (f"http://hooks.example/{PART}", "token", "a bearer token needs TLS"),
    ],
)
def test_a_setting_that_is_refused_is_not_shown_if_it_is_a_url(
    url: str, token: str | None, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["cmk-operator"])
    monkeypatch.setenv("CMK_OPERATOR_AUDIT_SINK_URL", url)
    if token is not None:
        monkeypatch.setenv("CMK_OPERATOR_AUDIT_SINK_TOKEN_FILE", str(tmp_path / token))
    with pytest.raises(SystemExit, match="2"):
        composition.main()
    said = capsys.readouterr().err
    assert words in said
    assert PART not in said
