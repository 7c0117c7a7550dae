"""What a Secret may hold as a credential of a registration, what is said of anything else, and when to warn of its end."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.organization.certificate import ReadableCredential, read_credential
from cmk_operator.core.organization.credential import LARGEST_CREDENTIAL, CertificateCredential, ClientSecret, CredentialType
from cmk_operator.core.organization.credential_expiry import EXPIRED, WARNINGS, days_left, warning
from tests.certificates import Made, rsa_key

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = Made(starts=NOW - DAY, ends=NOW + 90 * DAY)
OTHER = Made(rsa_key(1), starts=NOW - DAY, ends=NOW + 90 * DAY)
ELLIPTIC = Made(ec.generate_private_key(ec.SECP256R1()), starts=NOW - DAY, ends=NOW + 90 * DAY)
REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(x509.Name([]))
    .sign(rsa_key(), hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)
PKCS12 = pkcs12.serialize_key_and_certificates(None, rsa_key(), GOOD.certificate, None, serialization.NoEncryption())


def broken_exponent() -> bytes:
    """A key whose public half is the certificate's, and whose private half is not."""
    numbers = rsa_key().private_numbers()
    spoilt = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 2, numbers.dmp1 ^ 2, numbers.dmq1 ^ 2, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    return spoilt.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        GOOD.pem,
        GOOD.certificate_pem + GOOD.key_pem(),
        GOOD.key_pem(traditional=True) + GOOD.certificate_pem,
        GOOD.pem.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD.pem,
        b"Bag Attributes\n    localKeyID: 01\n" + GOOD.key_pem() + b"subject=CN = uipath.com\n\n" + GOOD.certificate_pem,
        Made(starts=NOW + timedelta(minutes=1), ends=NOW + 90 * DAY).pem,
    ],
    ids=["as Key Vault gives it", "turned round", "traditional", "Windows", "with a mark", "from PKCS 12", "a clock ahead"],
)
def test_a_certificate_with_its_key_says_when_it_ends_and_how_entra_names_it(content: bytes) -> None:
    found = read_credential(content, NOW)
    assert isinstance(found, ReadableCredential), found
    assert isinstance(found.credential, CertificateCredential)
    assert (found.credential.type, found.expires) == (CredentialType.CERTIFICATE, NOW + 90 * DAY)
    kept = x509.load_pem_x509_certificate(found.credential.pem)
    assert found.thumbprint == kept.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Entra names certificates by SHA-1
    key = serialization.load_pem_private_key(found.credential.pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.public_key() == kept.public_key()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.certificate_pem, "it holds only the certificate, which is the file for Entra: store the whole .pem file"),
        (GOOD.key_pem(), "it holds no certificate: store the whole .pem file"),
        (GOOD.key_pem() + OTHER.certificate_pem, "its private key is not that of its certificate"),
        (broken_exponent() + GOOD.certificate_pem, "its private key is not that of its certificate"),
        (GOOD.key_pem(password=b"x") + GOOD.certificate_pem, "its private key is encrypted"),
        (GOOD.key_pem(password=b"x", traditional=True) + GOOD.certificate_pem, "its private key is encrypted"),
        (GOOD.pem + OTHER.certificate_pem, "it holds 2 certificates: store the one that the registration has"),
        (GOOD.pem + OTHER.key_pem(), "it holds 2 private keys"),
        (Made(starts=NOW - 9 * DAY, ends=NOW).pem, "its certificate expired at 2026-11-30T12:00:00Z: create a new one"),
        (Made(starts=NOW + DAY, ends=NOW + 9 * DAY).pem, "its certificate is valid only from 2026-12-01T12:00:00Z"),
        (ELLIPTIC.pem, "its key is no RSA key"),
        (REQUEST, "it holds a request for a certificate, and no certificate"),
        (GOOD.key_pem() + REQUEST, "it holds no certificate"),
        (GOOD.key_pem()[:200] + b"\n" + GOOD.certificate_pem, "no END line of its own, as if it was cut"),
        (GOOD.key_pem() + GOOD.certificate_pem[:200], "no END line of its own, as if it was cut"),
        (GOOD.key_pem()[:200] + GOOD.key_pem()[260:] + GOOD.certificate_pem, "its private key cannot be read"),
        (GOOD.key_pem() + GOOD.certificate_pem[:200] + GOOD.certificate_pem[260:], "its certificate cannot be read"),
        (GOOD.pem.replace(b"\n", b"\\n"), "cannot be read"),
        (GOOD.pem + b"#" * LARGEST_CREDENTIAL, "a credential must have less than 10 KB"),
        (b"x" * LARGEST_CREDENTIAL, "a credential must have less than 10 KB"),
        (base64.b64encode(GOOD.pem), "encoded in base64 twice"),
        (PKCS12, "in PEM and not as .pfx or .cer"),
        (GOOD.der, "in PEM and not as .pfx or .cer"),
        (GOOD.certificate_pem.decode().encode("utf-16"), "neither text in ASCII nor a PEM file"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"two words", "it has spaces or control characters within"),
        (b"line\nline", "it has spaces or control characters within"),
        ("geheimnißvoll".encode(), "neither text in ASCII"),
    ],
)
def test_anything_else_is_refused_with_the_sentence_that_helps(content: bytes, words: str) -> None:
    found = read_credential(content, NOW)
    assert isinstance(found, str), "it was taken"
    assert words in found
    assert ": " in found, "it says what to do"


def test_a_client_secret_loses_the_line_feed_of_an_editor_and_nothing_else() -> None:
    assert read_credential(b"abc8Q~secret_.-value\r\n", NOW) == ReadableCredential(ClientSecret("abc8Q~secret_.-value"))


def test_one_byte_below_the_limit_is_taken() -> None:
    found = read_credential(b"x" * (LARGEST_CREDENTIAL - 1), NOW)
    assert isinstance(found, ReadableCredential)


pieces = st.sampled_from(
    [
        GOOD.key_pem(),
        GOOD.certificate_pem,
        OTHER.key_pem(),
        ELLIPTIC.pem,
        REQUEST,
        b"-----BEGIN PRIVATE KEY-----",
        b"\n",
        b"text",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(st.one_of(pieces, st.binary(max_size=20)), max_size=5).map(b"".join)))
def test_whatever_a_secret_holds_is_a_credential_or_a_sentence_that_shows_nothing_of_it(content: bytes) -> None:
    found = read_credential(content, NOW)
    if isinstance(found, str):
        assert found.isprintable()
        assert "BEGIN" not in found
        return
    if isinstance(found.credential, CertificateCredential):
        assert content.count(b"PRIVATE KEY-----\n") >= 1
    assert "PRIVATE" not in repr(found)


@given(st.integers(0, len(GOOD.pem) - 1), st.binary(min_size=1, max_size=3))
def test_a_certificate_that_was_edited_anywhere_never_raises(at: int, edit: bytes) -> None:
    read_credential(GOOD.pem[:at] + edit + GOOD.pem[at + len(edit) :], NOW)


@pytest.mark.parametrize(
    ("left", "days", "due"),
    [
        (61 * DAY, 61, None),
        (60 * DAY + timedelta(seconds=1), 60, None),
        (60 * DAY, 60, 60),
        (31 * DAY, 31, 60),
        (30 * DAY, 30, 30),
        (7 * DAY, 7, 7),
        (2 * DAY, 2, 7),
        (DAY, 1, 1),
        (timedelta(seconds=1), 0, 1),
        (timedelta(0), 0, EXPIRED),
        (-400 * DAY, 0, EXPIRED),
    ],
)
def test_a_warning_is_due_60_30_7_and_1_days_before_the_end_and_at_it(left: timedelta, days: int, due: int | None) -> None:
    assert (days_left(NOW + left, NOW), warning(NOW + left, NOW)) == (days, due)
    elsewhere = (NOW + left).astimezone(timezone(timedelta(hours=9)))
    assert warning(elsewhere, NOW) == due


moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - bounds take no zone


@given(moments, moments, moments)
def test_warnings_only_grow_more_urgent(expires: datetime, one: datetime, other: datetime) -> None:
    urgency = [None, *WARNINGS, EXPIRED]
    earlier, later = sorted((one, other))
    assert urgency.index(warning(expires, earlier)) <= urgency.index(warning(expires, later))
    assert days_left(expires, earlier) >= days_left(expires, later) >= 0
