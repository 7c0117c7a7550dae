"""The one gate between a manifest and the host that a token is sent to."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmk_operator.core.identifiers.cloud import CLOUDS
from cmk_operator.core.identifiers.key_uri import (
    InvalidKeyUriError,
    KeyUri,
    key_uri_or_none,
    parse_key_uri,
    parse_reported_key_uri,
)
from tests.unit.samples import V1

SUFFIXES = tuple(sorted(cloud.key_vault_suffix for cloud in CLOUDS.values()))
VAULT_HOST = re.compile(
    r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]\.(vault\.azure\.net|vault\.usgovcloudapi\.net|vault\.azure\.cn)"
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://abc.vault.azure.net/keys/k", "https://abc.vault.azure.net/keys/k"),
        (f"https://abc.vault.azure.net/keys/k/{V1}", f"https://abc.vault.azure.net/keys/k/{V1}"),
        ("https://abc.vault.azure.net:443/keys/k", "https://abc.vault.azure.net/keys/k"),
        ("https://ABC.Vault.Azure.NET/keys/k", "https://abc.vault.azure.net/keys/k"),
        ("HTTPS://ABC.vault.azure.net:443/keys/K", "https://abc.vault.azure.net/keys/K"),
        ("https://abc.vault.usgovcloudapi.net/keys/K-1", "https://abc.vault.usgovcloudapi.net/keys/K-1"),
        ("https://a-b-c.vault.azure.cn/keys/0", "https://a-b-c.vault.azure.cn/keys/0"),
    ],
)
def test_a_key_identifier_is_read_into_one_spelling(text: str, canonical: str) -> None:
    assert str(parse_reported_key_uri(text)) == canonical
    assert str(parse_key_uri(canonical)) == canonical
    # What Azure and its tools print may differ from that; a manifest may not.
    if text != canonical:
        with pytest.raises(InvalidKeyUriError):
            parse_key_uri(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must start with https://"),
        ("http://abc.vault.azure.net/keys/k", "must start with https://"),
        ("ftp://abc.vault.azure.net/keys/k", "must start with https://"),
        ("abc.vault.azure.net/keys/k", "must start with https://"),
        ("https://abc.vault.azure.net:8443/keys/k", "may not name a port"),
        ("https://abc.vault.azure.net:0/keys/k", "may not name a port"),
        ("https://abc.vault.azure.net:99999/keys/k", "may not name a port"),
        ("https://abc.vault.azure.net:443/keys/k", "may not name a port"),
        ("https://ABC.vault.azure.net/keys/k", "lower-case letters"),
        ("https://abc.vault.azure.net@evil.example/keys/k", "user info"),
        ("https://evil.example@abc.vault.azure.net/keys/k", "user info"),
        ("https://@abc.vault.azure.net/keys/k", "user info"),
        ("https://abc.vault.azure.net/keys/k?x=1", "query"),
        ("https://abc.vault.azure.net/keys/k?", "query"),
        ("https://abc.vault.azure.net/keys/k#", "fragment"),
        ("https://abc.vault.azure.net/keys/k#x", "fragment"),
        ("https://evil.example/keys/k", "is not a Key Vault"),
        ("https://abc.vault.azure.net.evil.example/keys/k", "is not a Key Vault"),
        ("https://abc.evil.vault.azure.net/keys/k", "is not a Key Vault"),
        ("https://abc.vault.azure.net./keys/k", "is not a Key Vault"),
        ("https://vault.azure.net/keys/k", "is not a Key Vault"),
        ("https://.vault.azure.net/keys/k", "vault name"),
        ("https://ab.vault.azure.net/keys/k", "vault name"),
        ("https://a--b.vault.azure.net/keys/k", "vault name"),
        ("https://1ab.vault.azure.net/keys/k", "vault name"),
        ("https://ab-.vault.azure.net/keys/k", "vault name"),
        (f"https://{'a' * 25}.vault.azure.net/keys/k", "vault name"),
        ("https://xn--80ak6aa92e.vault.azure.net/keys/k", "vault name"),
        ("https://abc%2evault.azure.net/keys/k", "is not a Key Vault"),
        ("https://127.0.0.1/keys/k", "is not a Key Vault"),
        ("https://[::1]/keys/k", "is not a Key Vault"),
        ("https://[::ffff:1.2.3.4].vault.azure.net/keys/k", "is not a Key Vault"),
        ("https://169.254.169.254/metadata/identity", "is not a Key Vault"),
        ("https://abc.managedhsm.azure.net/keys/k", "managed HSM"),
        ("https://abc.vault.azure.net/keys/k/", "may not end with a slash"),
        ("https://abc.vault.azure.net/", "may not end with a slash"),
        ("https://abc.vault.azure.net", "is not a key"),
        ("https://abc.vault.azure.net/keys", "is not a key"),
        ("https://abc.vault.azure.net//keys/k", "is not a key"),
        ("https://abc.vault.azure.net/keys/k/v/x", "is not a key"),
        ("https://abc.vault.azure.net/Keys/k", "is not a key"),
        ("https://abc.vault.azure.net/secrets/s", "secrets"),
        ("https://abc.vault.azure.net/certificates/c", "certificates"),
        ("https://abc.vault.azure.net/keys/../secrets", "key name"),
        ("https://abc.vault.azure.net/keys/k%2Fx", "key name"),
        ("https://abc.vault.azure.net/keys/k_1", "key name"),
        (f"https://abc.vault.azure.net/keys/{'k' * 128}", "key name"),
        ("https://abc.vault.azure.net/keys/k/latest", "32 lower-case"),
        (f"https://abc.vault.azure.net/keys/k/{V1.replace('1', 'A')}", "32 lower-case"),
        (f"https://abc.vault.azure.net/keys/k/{V1}0", "32 lower-case"),
        (" https://abc.vault.azure.net/keys/k", "no spaces"),
        ("https://abc.vault.azure.net/keys/k\n", "no spaces"),
        ("https://abc.vault.azure.net/ke\tys/k", "no spaces"),
        ("https://abc.vault.az\nure.net/keys/k", "no spaces"),
        ("https://abc.vault.azure.net/keys/k\0", "no spaces"),
        ("https://a\N{KELVIN SIGN}c.vault.azure.net/keys/k", "ASCII"),
        ("https://abc\N{IDEOGRAPHIC FULL STOP}vault.azure.net/keys/k", "ASCII"),
        ("https://abc.vault.azure.net\N{FULLWIDTH COMMERCIAL AT}evil.example/keys/k", "ASCII"),
        ("https://abc.vault.azure.net:\N{ARABIC-INDIC DIGIT FOUR}43/keys/k", "ASCII"),
        ("https://evil.example\\.vault.azure.net/keys/k", "is not a Key Vault"),
        ("https://evil.example\\@abc.vault.azure.net/keys/k", "user info"),
        ("https:abc.vault.azure.net/keys/k", "must start with https://"),
        ("https:////abc.vault.azure.net/keys/k", "is not a Key Vault"),
    ],
)
def test_what_is_no_key_in_a_key_vault_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidKeyUriError, match=re.escape(words)):
        parse_key_uri(text)


vault_names = st.from_regex(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]", fullmatch=True)
keys = st.builds(
    KeyUri,
    st.builds(lambda name, suffix: f"{name}.{suffix}", vault_names, st.sampled_from(SUFFIXES)),
    st.from_regex(r"[0-9A-Za-z-]{1,127}", fullmatch=True),
    st.one_of(st.none(), st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
)


@given(keys)
def test_every_key_is_read_back_from_what_it_prints(key: KeyUri) -> None:
    assert parse_key_uri(str(key)) == key


@given(keys, st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_pinning_and_following_are_opposites(key: KeyUri, version: str) -> None:
    assert key.at(version).versionless == key.versionless
    assert parse_key_uri(str(key.at(version))).version == version


BITS = (
    *(
        "https://",
        "http://",
        "HTTPS://",
        "https:",
        "//",
        "/",
        "\\",
        "@",
        ":",
        ":443",
        ":44",
        "?",
        "#",
        ";",
        "%2e",
        "%2F",
        "%40",
    ),
    *(
        "abc",
        "evil.example",
        "127.0.0.1",
        "[::1]",
        "xn--abc",
        "a\N{KELVIN SIGN}c",
        "K",
        "\N{LATIN SMALL LETTER DOTLESS I}",
        "ß",
        "\N{IDEOGRAPHIC FULL STOP}",
    ),
    *(
        ".",
        "..",
        "vault",
        ".vault.azure.net",
        ".vault.azure.cn",
        ".vault.usgovcloudapi.net",
        ".managedhsm.azure.net",
        "vault.azure.net",
    ),
    *("/keys/", "keys", "k", "/secrets/", V1, "\t", "\n", "\r", "\0", " ", "\N{ZERO WIDTH SPACE}", "\N{SOFT HYPHEN}"),
    *("\N{FULLWIDTH COMMERCIAL AT}", "\N{FULLWIDTH SOLIDUS}", "\N{CARE OF}", "\N{DIVISION SLASH}"),
)
urls = st.one_of(
    st.text(),
    st.lists(st.sampled_from(BITS), max_size=10).map("".join),
    st.builds(
        lambda scheme, host, rest: f"{scheme}{host}{rest}",
        st.sampled_from(["https://", "HTTPS://", " https://"]),
        st.lists(st.sampled_from(BITS), max_size=5).map("".join),
        st.sampled_from(["/keys/k", ".vault.azure.net/keys/k", f"@abc.vault.azure.net/keys/k/{V1}"]),
    ),
    # One mutation away from a good one, where mistakes hide best.
    st.builds(
        lambda at, cut, bit: (good := f"https://abc.vault.azure.net/keys/k/{V1}")[:at] + bit + good[at + cut :],
        st.integers(0, 70),
        st.integers(0, 3),
        st.one_of(st.sampled_from(BITS), st.characters()),
    ),
)


@settings(max_examples=500)
@given(urls)
@example("https://abc.vault.azure.net\\@evil.example/keys/k")
@example("https://abc.vault.azure.net\n@evil.example/keys/k")
def test_no_text_at_all_leads_to_a_host_that_is_not_a_key_vault(text: str) -> None:
    try:
        key = parse_reported_key_uri(text)
    except InvalidKeyUriError:
        return
    assert VAULT_HOST.fullmatch(key.vault_host)
    assert key.vault_host.isascii()
    # What a client will connect to, read by another eye than the parser's: nothing but that host.
    assert urlsplit(f"{key}").netloc == key.vault_host
    assert urlsplit(key.vault_url).geturl() == f"https://{key.vault_host}"
    # The text names this host literally: nothing was folded, stripped or decoded into it.
    assert text.isascii()
    assert key.vault_host in text.lower()


@settings(max_examples=500)
@given(urls)
def test_reading_is_stable_and_only_ever_refuses_by_its_own_error(text: str) -> None:
    assert key_uri_or_none(text) is None or str(key_uri_or_none(text)) == text, "a manifest has one spelling of a key"
    try:
        key = parse_reported_key_uri(text)
    except InvalidKeyUriError:
        assert key_uri_or_none(text) is None
        return
    assert parse_key_uri(str(key)) == key
