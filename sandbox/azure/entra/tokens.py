"""Access tokens: Entra's signing key, what is in a token, and what every service checks in one."""

from __future__ import annotations

import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.endpoints import here
from sandbox.azure.entra.directory import ARM_APP_ID, GRAPH_APP_ID, KEY_VAULT_APP_ID, STORAGE_APP_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sandbox.azure.entra.directory import ServicePrincipal
    from sandbox.azure.entra.users import User

# A managed identity's token for api://AzureADTokenExchange names the resource by its application id.
EXCHANGE_APP_ID = "fb60f99c-7a34-4190-8149-302f77469936"

STORAGE_AUDIENCES = frozenset({"https://storage.azure.com", STORAGE_APP_ID})
LIFETIME_SECONDS = 3599


def arm_audiences() -> frozenset[str]:
    """What tokens for Resource Manager may name."""
    return frozenset({f"https://{here().resource_manager}", f"https://{here().management_core}", ARM_APP_ID})


def vault_audiences() -> frozenset[str]:
    """What tokens for vaults may name."""
    return frozenset({here().vault_audience, KEY_VAULT_APP_ID})


def graph_audiences() -> frozenset[str]:
    """What tokens for Microsoft Graph may name."""
    return frozenset({f"https://{here().graph}", GRAPH_APP_ID})


def audience_of(resource: str) -> tuple[str | None, str] | None:
    """The application behind the resource in a scope, and the audience of its tokens; None for a resource that nobody knows."""
    manager, core, vault, graph = (
        f"https://{here().resource_manager}",
        f"https://{here().management_core}",
        here().vault_audience,
        f"https://{here().graph}",
    )
    known = {
        manager: (ARM_APP_ID, manager),
        core: (ARM_APP_ID, f"{core}/"),
        vault: (KEY_VAULT_APP_ID, vault),
        graph: (GRAPH_APP_ID, graph),
        "https://storage.azure.com": (STORAGE_APP_ID, "https://storage.azure.com"),
        here().exchange_audience.lower(): (None, EXCHANGE_APP_ID),
    }
    return known.get(resource.rstrip("/").lower())


@dataclass(frozen=True)
class Claims:
    """The verified claims of an access token, as far as the services use them."""

    tenant_id: str
    object_id: str
    app_id: str
    audience: str
    issuer: str
    roles: frozenset[str]


class TokenInvalidError(Exception):
    """Why a token is not accepted: one of `malformed`, `signature`, `expired`, `audience`, `issuer`."""

    def __init__(self, reason: str, token_audience: str = "", expiry: float = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.token_audience = token_audience
        self.expiry = expiry


def key_id_of(key: rsa.RSAPublicKey) -> str:
    """A stable name for a signing key."""
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return urlsafe_b64encode(sha256(public).digest()[:20]).rstrip(b"=").decode()


class Tokens:
    """Entra's signing key and what it signs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = self._key.public_key()
        self._kid = key_id_of(self._public)

    def jwks(self) -> dict[str, Any]:
        """The keys document of every tenant."""
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [{**key, "use": "sig", "kid": self._kid, "x5t": self._kid}]}

    def issue(self, principal: ServicePrincipal, audience: str, *, by_secret: bool) -> str:
        """An app-only token; v2 for the token exchange audience, v1 (issuer sts.windows.net) otherwise."""
        now = int(time.time())
        version_two = audience == EXCHANGE_APP_ID
        tenant = principal.tenant_id
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": f"{here().issuer}/{tenant}/v2.0" if version_two else f"{here().token_issuer}/{tenant}/",
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS + 1,
            "azp" if version_two else "appid": principal.app_id,
            "azpacr" if version_two else "appidacr": "1" if by_secret else "2",
            "idp": f"{here().token_issuer}/{tenant}/",
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": tenant,
            "uti": uuid.uuid4().hex[:22],
            "ver": "2.0" if version_two else "1.0",
        }
        if principal.managed_identity is not None:
            claims["xms_mirid"] = principal.managed_identity.resource_id
        if audience == f"https://{here().graph}":
            claims["roles"] = sorted(principal.graph_permissions())
        return self._signed(claims)

    def issue_for_user(
        self, user: User, app_id: str, scopes: Sequence[str], nonce: str | None, groups: Mapping[str, Any]
    ) -> dict[str, str]:
        """A user's id_token for an application, and the access token for Microsoft Graph that comes with it.

        Claims: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference.
        """
        now = int(time.time())
        shared = {"iat": now, "nbf": now, "exp": now + LIFETIME_SECONDS + 1, "oid": user.object_id, "tid": user.tenant_id}
        identity: dict[str, Any] = {
            **shared,
            "aud": app_id,
            "iss": f"{here().issuer}/{user.tenant_id}/v2.0",
            "sub": user.subject(app_id),
            "uti": uuid.uuid4().hex[:22],
            "ver": "2.0",
            **({"nonce": nonce} if nonce is not None else {}),
            **({"name": user.display_name, "preferred_username": user.name} if "profile" in scopes else {}),
            **({"email": user.name} if "email" in scopes else {}),
            **groups,
        }
        access: dict[str, Any] = {
            **shared,
            "aud": f"https://{here().graph}",
            "iss": f"{here().token_issuer}/{user.tenant_id}/",
            "sub": user.subject(GRAPH_APP_ID),
            "appid": app_id,
            "idtyp": "user",
            "scp": " ".join(scopes),
            "uti": uuid.uuid4().hex[:22],
            "ver": "1.0",
        }
        return {"id_token": self._signed(identity), "access_token": self._signed(access)}

    def _signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid, "x5t": self._kid})

    def claims(self, token: str, *, check_expiry: bool = True) -> dict[str, Any]:
        """The claims of a token that this Entra signed. Raises TokenInvalidError."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("kid") != self._kid:
                raise TokenInvalidError("signature")
            options: jwt.types.Options = {
                "verify_aud": False,
                "verify_exp": check_expiry,
                "require": ["exp", "iss", "aud", "oid", "tid"],
            }
            return jwt.decode(token, self._public, algorithms=["RS256"], options=options)
        except jwt.ExpiredSignatureError as error:
            expiry = jwt.decode(token, options={"verify_signature": False}).get("exp", 0)
            raise TokenInvalidError("expired", expiry=float(expiry)) from error
        except jwt.InvalidSignatureError as error:
            raise TokenInvalidError("signature") from error
        except jwt.PyJWTError as error:
            raise TokenInvalidError("malformed") from error

    def verify(self, token: str, audiences: Collection[str]) -> Claims:
        """The claims of a token for one of these audiences. Raises TokenInvalidError."""
        claims = self.claims(token)
        audience, tenant = str(claims["aud"]), str(claims["tid"])
        if audience.rstrip("/") not in audiences:
            raise TokenInvalidError("audience", token_audience=audience)
        if claims["iss"] != f"{here().token_issuer}/{tenant}/":
            raise TokenInvalidError("issuer")
        return Claims(
            tenant_id=tenant,
            object_id=str(claims["oid"]),
            app_id=str(claims["appid"]),
            audience=audience,
            issuer=str(claims["iss"]),
            roles=frozenset(claims.get("roles", ())),
        )
