"""The API server admits exactly the key identifiers that the operator reads: two readers, one grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmk_operator.core.identifiers.cloud import CLOUDS
from cmk_operator.core.identifiers.key_uri import key_uri_or_none
from tests.admission.manifests import KEY, VERSION, manifest

if TYPE_CHECKING:
    from tests.admission.api import Api

LONGEST = 300
"""The field's own limit, which the API server tells apart from the rules."""
SUFFIXES = sorted(cloud.key_vault_suffix for cloud in CLOUDS.values())
PARTS = (
    *(
        "https://",
        "HTTPS://",
        "http://",
        "https:/",
        "//",
        "/",
        "\\",
        "@",
        "user@",
        ":",
        ":443",
        ":8443",
        "?",
        "?x=1",
        "#",
        ";",
        "%2e",
        "%2F",
    ),
    *(
        "abc",
        "ab",
        "ABC",
        "a--b",
        "a-b",
        "-ab",
        "ab-",
        "1ab",
        "a" * 24,
        "a" * 25,
        "xn--abc",
        "evil.example",
        "127.0.0.1",
        "[::1]",
    ),
    *(
        ".",
        "..",
        "...",
        *(f".{suffix}" for suffix in SUFFIXES),
        ".managedhsm.azure.net",
        ".vault.azure.net.",
        ".Vault.Azure.Net",
    ),
    *(
        "/keys/",
        "/Keys/",
        "//keys/",
        "/secrets/",
        "/certificates/",
        "keys",
        "k",
        "K-1",
        "k_1",
        "k" * 127,
        "k" * 128,
        f"/{VERSION}",
    ),
    *(
        f"/{VERSION.upper()}",
        f"/{VERSION[:-1]}",
        f"/{VERSION}0",
        "/latest",
        " ",
        "\t",
        "\n",
        "\r",
        "\x7f",
        "\u00ad",
        "\u200b",
        "\u212a",
    ),
    *("\uff20", "\u3002", "\u2044", "\u0131", "\u00df", "\u0664", "\U0001f511"),
)
vaults = st.from_regex(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]", fullmatch=True)
good = st.builds(
    lambda vault, suffix, name, version: f"https://{vault}.{suffix}/keys/{name}{version}",
    vaults,
    st.sampled_from(SUFFIXES),
    st.from_regex(r"[0-9A-Za-z-]{1,127}", fullmatch=True),
    st.sampled_from(["", f"/{VERSION}"]),
)
texts = st.one_of(
    good,
    # One or two mutations away from a good one, where two readers disagree first.
    st.builds(
        lambda text, at, cut, part: text[: at % (len(text) + 1)] + part + text[at % (len(text) + 1) + cut :],
        good,
        st.integers(0, LONGEST),
        st.integers(0, 4),
        st.one_of(st.sampled_from(PARTS), st.characters(exclude_categories=["Cs"])),
    ),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["https://", "https://", "HTTPS://", "https://user@"]),
            st.one_of(vaults, st.sampled_from(["abc", "a--b", "ABC", "ab", "a" * 24, "a" * 25])),
            st.sampled_from(
                [*(f".{suffix}" for suffix in SUFFIXES), ".vault.azure.net:443", ".vault.azure.net.", ".VAULT.azure.net"]
            ),
            st.sampled_from(["/keys/", "/keys/", "/keys//", "/Keys/", "//keys/", "/secrets/"]),
            st.sampled_from(["k", "K-1", "k" * 127, "k" * 128, "k_1", "k%20", "..", ""]),
            st.sampled_from(["", "/", f"/{VERSION}", f"/{VERSION}/", f"/{VERSION.upper()}", "?", "#", "\n"]),
        ),
    ),
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join),
).filter(lambda text: len(text) <= LONGEST)


def admits(api: Api, text: str) -> bool:
    judged = manifest("customermanagedkeys", "judged")
    judged["spec"]["keyUri"] = text
    answer = api.judge(judged)
    assert answer.status in {201, 422}, answer.message
    assert answer.status == 201 or {field for field, _ in answer.causes} == {"spec.keyUri"}, answer.message
    return answer.status == 201


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)
@given(text=texts)
def test_the_api_server_admits_what_the_operator_reads_and_nothing_else(api: Api, text: str) -> None:
    assert admits(api, text) is (key_uri_or_none(text) is not None)


def test_the_two_readers_are_compared_over_texts_that_both_admit_and_refuse(api: Api) -> None:
    assert admits(api, KEY)
    assert not admits(api, f"{KEY}/")
