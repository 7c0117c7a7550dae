"""No token reaches a log line, whatever carries it there."""

from __future__ import annotations

import base64
import io
import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.text.redaction import host_of, redacted
from cmk_operator.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


TOKEN = ".".join(
    [part('{"alg":"RS256","typ":"JWT"}'), part('{"aud":"https://vault.azure.net","oid":"x"}'), part("signature" * 20)]
)
SECRETS = (TOKEN.split(".")[1], TOKEN.split(".")[2])
FORMS: tuple[Literal["json", "text"], ...] = ("json", "text")


@pytest.fixture(params=FORMS)
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What goes to standard error, in both forms; the test run's own logging is put back after."""
    root, stream = logging.getLogger(), io.StringIO()
    before = (
        root.handlers[:],
        root.level,
        {name: logging.getLogger(name).level for name in ("azure", "kopf", "msal", "asyncio", "urllib3", "aiohttp.access")},
    )
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging(request.param, "DEBUG")
    yield stream
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, of_name in levels.items():
        logging.getLogger(name).setLevel(of_name)


LOG = logging.getLogger("cmk_operator.test")


class Answer:
    """Something of a library's, which prints what it carries."""

    def __repr__(self) -> str:
        return f"<Answer {TOKEN}>"


def tell_in_the_message() -> None:
    LOG.warning(f"refused: {TOKEN}")  # noqa: G004 - what must not be done is what is tested


def tell_in_an_argument() -> None:
    LOG.warning("refused: %s", TOKEN)


def tell_in_a_header() -> None:
    LOG.warning("sent %s", {"Authorization": f"Bearer {TOKEN}"})


def tell_an_opaque_bearer_token() -> None:
    LOG.warning("sent Authorization: bearer %s", "_".join(SECRETS))


def tell_in_an_extra() -> None:
    LOG.warning("refused", extra={"answer": f"client_assertion={TOKEN}&x=1"})


def tell_in_a_nested_extra() -> None:
    LOG.warning("refused", extra={"headers": {"Authorization": f"Bearer {TOKEN}"}, "all": [TOKEN, (TOKEN,)]})


def tell_in_an_object() -> None:
    LOG.warning("refused", extra={"answer": Answer()})


def tell_in_an_exception() -> None:
    try:
        int(TOKEN)
    except ValueError:
        LOG.exception("failed")


def tell_in_a_chained_exception() -> None:
    try:
        _read_number()
    except RuntimeError:
        LOG.exception("failed")


def _read_number() -> None:
    try:
        int(f"body: {TOKEN}")
    except ValueError as error:
        raise RuntimeError("outer") from error


def tell_in_a_stack() -> None:
    LOG.warning("here", stack_info=True, extra={"token": TOKEN})


WAYS = [value for name, value in sorted(globals().items()) if name.startswith("tell_")]


@pytest.mark.parametrize("tell", WAYS)
def test_no_token_is_written(tell: Any, written: io.StringIO) -> None:
    tell()
    line = written.getvalue()
    assert line
    for secret in SECRETS:
        assert secret not in line
    assert "[token]" in line


def test_a_record_that_cannot_be_rendered_stops_nobody(written: io.StringIO) -> None:
    LOG.warning("%d objects", "many")
    LOG.warning("still here")
    assert "still here" in written.getvalue()


def test_each_line_is_one_json_object_with_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging("json", "INFO")
    LOG.info("key\nchanged", extra={"azureRequestId": "r-1", "from": "a", "to": "b"})
    root.handlers[:], root.level = before, level
    [line] = stream.getvalue().splitlines()
    record = json.loads(line)
    assert {name: record[name] for name in ("level", "logger", "message", "azureRequestId", "from", "to")} == {
        "level": "INFO",
        "logger": "cmk_operator.test",
        "message": "key\nchanged",
        "azureRequestId": "r-1",
        "from": "a",
        "to": "b",
    }


segments = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=40)


@given(st.text(), segments, segments, segments, st.text())
def test_any_json_web_token_in_any_text_is_blotted_out(
    before: str, header: str, claims: str, signature: str, after: str
) -> None:
    token = f"eyJ{header}.{claims}.{signature}"
    text = redacted(f"{before} {token} {after}")
    assert token not in text
    assert f".{claims}.{signature}" not in text


@given(
    st.text(st.characters(codec="ascii", exclude_characters="."), max_size=60).filter(lambda text: "bearer" not in text.lower())
)
def test_what_is_no_token_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


ALPHABET = "abcXYZ0123456789~._-+/="
values = st.text(st.sampled_from(ALPHABET), min_size=8, max_size=60).map(lambda text: f"Q{text}Q")
FORMS_OF_SECRETS = (
    "https://account.blob.core.windows.net/c?sv=2024-11-04&sp=r&sig={}",
    "https://hooks.example/in?code={}&x=1",
    "https://chat.example/v1/spaces/a/messages?key=a&token={}",
    "https://user:{}@proxy.example:3128",
    "client_secret={}&grant_type=client_credentials",
    '{{"client_secret": "{}"}}',
    "clientSecret: {}",
    "client_assertion={}",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=core.windows.net",
    "Endpoint=sb://a.example/;SharedAccessKeyName=Root;SharedAccessKey={}",
    "SharedAccessSignature sr=a&sig={}&se=1",
    "Authorization: Bearer {}",
    "'Authorization': 'Basic {}'",
    "password={}",
    '"password":"{}"',
    "x-functions-key: {}",
    "Bearer AAAAAAAAAAAAAAAAAAAA{}",
)
separated = st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: f"{text} ")


@pytest.mark.parametrize("form", FORMS_OF_SECRETS)
@given(separated, values, st.text())
def test_a_secret_in_any_usual_form_survives_in_no_text(form: str, before: str, value: str, after: str) -> None:
    value = value.replace("/", "_") if "@" in form else value
    assert value not in redacted(f"{before}{form.format(value)} {after}")


@given(st.text(), st.binary(min_size=24, max_size=64), st.text())
def test_a_signing_secret_survives_in_no_text(before: str, key: bytes, after: str) -> None:
    encoded = base64.b64encode(key).decode()
    assert encoded not in redacted(f"{before}whsec_{encoded} {after}")


@pytest.mark.parametrize("form", [str, json.dumps, repr])
@given(
    st.text(),
    st.binary(min_size=30, max_size=200),
    st.sampled_from(["RSA PRIVATE KEY", "PRIVATE KEY"]),
    st.sampled_from(["END", ""]),
)
def test_a_private_key_survives_in_no_text_even_if_it_is_cut_off(
    form: Callable[[str], str], before: str, key: bytes, label: str, end: str
) -> None:
    lines = base64.encodebytes(key).decode()
    text = f"{before}-----BEGIN {label}-----\n{lines}" + (f"-----{end} {label}-----\n" if end else "")
    shown = redacted(form(text))
    assert not any(line in shown for line in lines.split() if len(line) > 20)


fragments = st.sampled_from(
    [
        *(form.format("Q0123456789Q") for form in FORMS_OF_SECRETS),
        "client_secret=",
        "sig=",
        "password",
        '"',
        "'",
        "\\",
        ",",
        " ",
        "eyJa.b.c",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "whsec_",
        "Authorization:",
        "?code=",
        "://",
        "@",
        "}",
    ]
)
texts = st.lists(st.one_of(fragments, st.text(max_size=5)), max_size=8).map("".join)


@given(texts, texts, st.integers(0, 1200))
def test_what_is_redacted_stays_the_same_in_a_line_of_the_record(first: str, second: str, length: int) -> None:
    """The digest of an audit entry must hold for its copy in the log, which is redacted as a whole."""
    record = {"from": redacted(first)[:length], "to": [redacted(second)], "why": redacted(first + second), "z": redacted(first)}
    for line in (json.dumps(record), json.dumps(record, ensure_ascii=False), json.dumps({"audit": json.dumps(record)})):
        assert redacted(line) == line


NAMES_OF_SECRETS = (
    *("client_secret", "ClientSecret", "client-secret", "SharedAccessKey", "shared_access_key", "AccountKey", "account-key"),
    *("apiKey", "API_KEY", "x-functions-key", "subscription-key", "subscription_key", "privateKey", "PRIVATE-KEY"),
    *("password", "Passwd", "PWD", "secret", "sig", "Signature", "Authorization", "clientAssertion", "client_assertion"),
    *("access_token", "AccessToken", "refresh-token", "id_token", "?code", "&key", "&token", "?auth", "&apikey", "?HMAC"),
)
entries = st.builds(
    "{}{}{}{} ".format, st.sampled_from(NAMES_OF_SECRETS), st.sampled_from(["=", ": ", '":"', " = '"]), values, texts
)


@given(st.lists(st.one_of(entries, texts), max_size=4).map("".join))
def test_the_search_for_words_first_leaves_no_form_out(text: str) -> None:
    """A letter outside of ASCII turns that search off."""
    assert redacted(f"{text},") == redacted(f"{text},\N{LATIN SMALL LETTER E WITH ACUTE}")[:-1]


@pytest.mark.parametrize("name", NAMES_OF_SECRETS)
def test_each_name_of_a_secret_hides_its_value(name: str) -> None:
    for text in (f"{name}=Q0123456789Q", f"{name.upper()}=Q0123456789Q"):
        assert "Q0123456789Q" not in redacted(text)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example/in/TOKEN?code=SECRET#part", "hooks.example"),
        ("https://user:SECRET@Hooks.example:8443/in", "hooks.example:8443"),
        ("https://[2001:db8::1]:443/SECRET", "[2001:db8::1]:443"),
        ("https://[SECRET", "an address that cannot be read"),
        ("https://hooks.example:SECRET/", "an address that cannot be read"),
        ("SECRET", "an address that cannot be read"),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, host: str) -> None:
    assert host_of(url) == host


def test_ids_and_uris_stay_readable() -> None:
    line = "key https://contoso.vault.azure.net/keys/storage/0123456789abcdef0123456789abcdef of 11111111-1111-4111-8111-111111111111"
    assert redacted(line) == line


@pytest.mark.parametrize(
    ("logger", "cause", "traced"),
    [
        ("kopf._core.reactor.queueing", aiohttp.ClientConnectionError(), False),
        ("kopf._core.reactor.queueing", ValueError(), True),
        ("cmk_operator.handlers", aiohttp.ClientConnectionError(), True),
    ],
    ids=["the API server refuses a request of kopf", "a bug in kopf", "a bug of ours"],
)
def test_only_a_refused_request_of_kopf_is_logged_without_a_traceback(
    written: io.StringIO, logger: str, cause: Exception, *, traced: bool
) -> None:
    error = RuntimeError("404 page not found")
    error.__cause__ = cause
    logging.getLogger(logger).error("the watcher has failed: 404 page not found", exc_info=error)
    assert "404 page not found" in written.getvalue()
    assert ("RuntimeError" in written.getvalue()) is traced
