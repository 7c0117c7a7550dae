"""Maps Entra's error numbers to families: by prefix, and by single codes where the numbering has no pattern.

Source: Entra "Authentication and authorization error codes"; reports of single codes are named beside them. Entra lengthens a
number for a finer case of it (70021: 700211, 700213, 7002121), so a family is a prefix, and a code that is not listed belongs to it.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final


class EntraFamily(Enum):
    """What a refused token request is about, which decides who can end it."""

    NO_PRINCIPAL = "the application has no service principal in the tenant"
    PRINCIPAL_DISABLED = "the service principal of the application is disabled"
    NOT_ASSIGNED = "the service principal may sign in, but is not assigned to the resource"
    NO_RESOURCE = "the service principal of the resource is missing or disabled in the tenant"
    NOT_CONSENTED = "an administrator's consent is missing"
    POLICY = "Conditional Access"
    FEDERATION = "no federated credential fits"
    CREDENTIAL = "the assertion, certificate or secret is not accepted"
    FEDERATION_POLICY = "a policy of the application's own tenant forbids federated credentials of this issuer"
    SINGLE_TENANT = "the application is for one tenant only"
    NO_TENANT = "there is no such tenant"
    ANOTHER_CLOUD = "the tenant is one of another cloud"
    TRANSIENT = "Entra's own trouble"


CONSENT: Final = frozenset(
    {
        EntraFamily.NO_PRINCIPAL,
        EntraFamily.PRINCIPAL_DISABLED,
        EntraFamily.NOT_ASSIGNED,
        EntraFamily.NO_RESOURCE,
        EntraFamily.NOT_CONSENTED,
    }
)
"""What the administrator of the tenant that is signed in to must permit."""
_EXACT: Final = {
    # Codes whose meaning differs from that of their prefix below, or that have no prefix.
    700236: EntraFamily.FEDERATION_POLICY,
    650059: EntraFamily.SINGLE_TENANT,
    50194: EntraFamily.SINGLE_TENANT,  # "is not configured as a multi-tenant application"
    7000112: EntraFamily.PRINCIPAL_DISABLED,
    7000113: EntraFamily.CREDENTIAL,
    7000229: EntraFamily.NO_PRINCIPAL,  # with 401 invalid_client; azure-sdk-for-net#46762
    70001: EntraFamily.NO_PRINCIPAL,
    50007: EntraFamily.NO_PRINCIPAL,
    65001: EntraFamily.NOT_CONSENTED,
    50059: EntraFamily.NO_TENANT,
    50128: EntraFamily.NO_TENANT,
    90019: EntraFamily.NO_TENANT,
    90038: EntraFamily.ANOTHER_CLOUD,
    900382: EntraFamily.ANOTHER_CLOUD,
    70025: EntraFamily.FEDERATION,
    7000226: EntraFamily.FEDERATION,
    50012: EntraFamily.CREDENTIAL,
    50013: EntraFamily.CREDENTIAL,
    50027: EntraFamily.CREDENTIAL,
    500133: EntraFamily.CREDENTIAL,
    70002: EntraFamily.CREDENTIAL,
    90061: EntraFamily.FEDERATION,  # the issuer's OpenID Connect documents cannot be read
    50131: EntraFamily.POLICY,
    50000: EntraFamily.TRANSIENT,
    50033: EntraFamily.TRANSIENT,
    90006: EntraFamily.TRANSIENT,
    90012: EntraFamily.TRANSIENT,
    90024: EntraFamily.TRANSIENT,
    90033: EntraFamily.TRANSIENT,
    90055: EntraFamily.TRANSIENT,
}
_PREFIXES: Final = (
    ("70021", EntraFamily.FEDERATION),
    ("7002[0-9]{2}", EntraFamily.FEDERATION),
    ("70002[0-9]{2}$", EntraFamily.CREDENTIAL),  # 7000215 secret, 7000218 none sent, 7000222 expired
    ("7000(22|23|24|25|27|30)", EntraFamily.CREDENTIAL),  # the client assertion: audience, time, signature, certificate
    ("700016", EntraFamily.NO_PRINCIPAL),
    ("700011", EntraFamily.NO_PRINCIPAL),
    ("50105", EntraFamily.NOT_ASSIGNED),  # also 501051: "is not assigned to a role for the application"
    ("50001", EntraFamily.NO_RESOURCE),  # also 500011 not found, 500014 disabled
    ("650", EntraFamily.NOT_CONSENTED),  # 65004 declined, 65005 and 65005x: consent lacks what the application asks for
    ("9009[0-5]", EntraFamily.NOT_CONSENTED),  # 90093, 90094, 90095: an administrator must consent
    ("53", EntraFamily.POLICY),  # 53000 to 53011, 530032 and finer: Conditional Access and security defaults
    ("90002", EntraFamily.NO_TENANT),  # also 900021 and 900023: no valid name of a tenant
    ("90043", EntraFamily.ANOTHER_CLOUD),  # also 900432 and 900439: national clouds
)
_FAMILIES: Final = tuple((re.compile(pattern), family) for pattern, family in _PREFIXES)


def family_of(code: int) -> EntraFamily | None:
    """The family of an AADSTS number; None if it has neither an entry nor a matching prefix."""
    if code in _EXACT:
        return _EXACT[code]
    digits = str(code)
    return next((family for pattern, family in _FAMILIES if pattern.match(digits)), None)
