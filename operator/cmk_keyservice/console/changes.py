"""What the form of the page asks for, as fields of an OrganizationKey, or the sentences that say what is missing. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.identifiers.key_uri import key_uri_or_none

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from cmk_operator.api.organization_key import OrganizationKeySpec

CONSOLE_FIELDS: Final = ("mode", "confirmation", "tenantRef", "keyUri", "access")
"""Fields of the spec that the page writes; it touches no other."""
_GUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LONGEST_CREDENTIAL: Final = 10 * 1024


@dataclass(frozen=True)
class TenantChoice:
    """A CustomerTenant that admits the namespace of the organization."""

    name: str
    tenant_id: str
    authority: str
    """Scheme and host of Entra's sign-in pages in the tenant's cloud."""
    issuer: str
    application: str | None
    """Client id of the platform's application; None while it is not known."""


@dataclass(frozen=True)
class Draft:
    """The form, as it was sent."""

    mode: str = "PlatformManaged"
    confirmation: str = ""
    tenant: str = ""
    key_uri: str = ""
    method: str = "application"
    client_id: str = ""
    credential: str = ""
    expires: str = ""
    generation: str = ""

    def __repr__(self) -> str:
        """No credential."""
        return f"Draft(mode={self.mode!r}, method={self.method!r})"


def draft_of_form(form: Mapping[str, str]) -> Draft:
    """The form's fields, without spaces around them; a credential keeps its own lines."""
    names = ("mode", "confirmation", "tenant", "key_uri", "method", "client_id", "expires", "generation")
    found = {name: form.get(name, "").strip() for name in names}
    return Draft(**found, credential=form.get("credential", "").replace("\r\n", "\n").strip())


def draft_of_spec(spec: OrganizationKeySpec) -> Draft:
    """The form as it shows what is asked for now."""
    access = spec.access
    own = access.registration if access is not None else None
    return Draft(
        mode=spec.mode or "PlatformManaged",
        tenant=spec.tenant_ref.name if spec.tenant_ref is not None else "",
        key_uri=spec.key_uri or "",
        method="registration" if own is not None else "application",
        client_id=own.client_id if own is not None else "",
    )


@dataclass(frozen=True)
class Wanted:
    """The console's fields as they are to be; `credential` is to be stored first, as this entry of the Secret."""

    fields: Mapping[str, Any]
    credential: tuple[str, str, str] | None = None

    def __repr__(self) -> str:
        """No credential."""
        return f"Wanted({self.fields!r})"


def wanted(
    draft: Draft,
    spec: OrganizationKeySpec,
    choices: Sequence[TenantChoice],
    proven: Collection[str],
    secret: str,
    now: datetime,
) -> Wanted | list[str]:
    """The fields, or every sentence about what is wrong.

    `proven`: ids of the tenants that the person has proven to belong to, for this organization and in this session. The platform's
    one application reaches the vaults of all customers: only who belongs to a tenant may use it there.
    """
    if draft.mode == "PlatformManaged":
        return Wanted({"mode": "PlatformManaged"})
    if draft.mode != "CustomerManaged":
        return ["Choose who manages the key."]
    wrong: list[str] = []
    if draft.confirmation != spec.organization.name:
        wrong.append(
            f"Type the organization's name, {spec.organization.name}, to confirm: if the key is lost, the data is lost."
        )
    choice = next((one for one in choices if one.name == draft.tenant), None)
    if choice is None:
        wrong.append("Choose the tenant of the vault. If it is not listed, the provider must add it first.")
    if key_uri_or_none(draft.key_uri) is None:
        wrong.append("Enter the key identifier as Key Vault shows it, such as https://contoso.vault.azure.net/keys/orders.")
    reached = _access(draft, spec, choice, proven, secret, now)
    wrong += reached if isinstance(reached, list) else []
    if isinstance(reached, list) or wrong or choice is None:
        return wrong
    access, credential = reached
    fields = {
        "mode": "CustomerManaged",
        "confirmation": draft.confirmation,
        "tenantRef": {"name": choice.name},
        "keyUri": draft.key_uri,
        "access": access,
    }
    return Wanted(fields, credential)


def _access(
    draft: Draft,
    spec: OrganizationKeySpec,
    choice: TenantChoice | None,
    proven: Collection[str],
    secret: str,
    now: datetime,
) -> tuple[dict[str, Any], tuple[str, str, str] | None] | list[str]:
    """How the vault is reached, and the credential that is to be stored for it."""
    if draft.method == "application":
        if choice is not None and choice.tenant_id not in proven and not _is_in_use(spec, choice):
            return [f"Sign in at the tenant {choice.tenant_id} first: nobody else may use the platform's application there."]
        return {"application": {}}, None
    if draft.method != "registration":
        return ["Choose how the vault is reached."]
    entry = f"credential-{now:%Y%m%d%H%M%S}"
    read = _registration(draft, spec, secret, entry)
    if isinstance(read, list):
        return read
    return {"registration": read}, ((secret, entry, draft.credential) if draft.credential else None)


def _is_in_use(spec: OrganizationKeySpec, choice: TenantChoice) -> bool:
    """Whether the application is what the organization uses at this tenant already."""
    at_it = spec.tenant_ref is not None and spec.tenant_ref.name == choice.name
    return spec.customer_managed and at_it and spec.access is not None and spec.access.application is not None


def _registration(draft: Draft, spec: OrganizationKeySpec, secret: str, entry: str) -> dict[str, Any] | list[str]:
    wrong = []
    if _GUID.fullmatch(draft.client_id) is None:
        wrong.append("Enter the application (client) id of your registration.")
    if len(draft.credential.encode()) >= LONGEST_CREDENTIAL:
        wrong.append("The credential must be less than 10 KB: paste only the private key and its certificate.")
    if draft.expires and _date(draft.expires) is None:
        wrong.append("Enter the day on which the client secret expires as YYYY-MM-DD, or leave it empty.")
    before = spec.access.registration if spec.access is not None else None
    if not draft.credential and before is None:
        wrong.append("Paste the client secret, or the private key and certificate in PEM.")
    if wrong:
        return wrong
    if not draft.credential and before is not None:
        kept = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in before.credentials]
        return {"clientId": draft.client_id, "credentials": kept}
    made: dict[str, Any] = {"secretRef": {"name": secret, "key": entry}}
    if draft.expires and "-----BEGIN" not in draft.credential:
        made["expires"] = f"{draft.expires}T00:00:00Z"
    return {"clientId": draft.client_id, "credentials": [made]}


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def whole_spec(spec: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the console's fields replaced: what is tested is what would be applied."""
    return {name: value for name, value in spec.items() if name not in CONSOLE_FIELDS} | dict(fields)
