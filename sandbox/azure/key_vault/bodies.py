"""The request bodies of Key Vault's keys, field by field (https://learn.microsoft.com/rest/api/keyvault/keys)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.azure.exchange import MalformedBodyError
from sandbox.azure.key_vault.crypto import bad_parameter

if TYPE_CHECKING:
    from sandbox.azure.exchange import Exchange

Body = TypeVar("Body", bound=BaseModel)
KeyOperation = Literal["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export"]


class Strict(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """https://learn.microsoft.com/azure/key-vault/keys/about-keys-details#key-tags; words: aztfmod/terraform-azurerm-caf#821."""
    if len(tags) > MOST_TAGS or any(len(text) > LONGEST_TAG for one in tags.items() for text in one):
        raise bad_parameter("Property has invalid value\r\n")
    return tags


MOST_TAGS, LONGEST_TAG = 15, 256
Tags = Annotated[dict[str, str], AfterValidator(_checked_tags)]


class Attributes(Strict):
    """What a client may set; times are whole seconds since the epoch."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    exportable: Literal[False] | None = None
    """True needs a release policy, which is not simulated."""

    @model_validator(mode="after")
    def valid_for_some_time(self) -> Self:
        """A key expires after it becomes valid."""
        if self.nbf is not None and self.exp is not None and self.exp <= self.nbf:
            raise bad_parameter("Property has invalid value\r\n")
        return self


class CreateKey(Strict):
    """POST /keys/{name}/create."""

    kty: Literal["RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM"]
    key_size: int | None = None
    key_ops: list[KeyOperation] | None = None
    attributes: Attributes | None = None
    tags: Tags | None = None
    crv: Literal["P-256", "P-384", "P-521", "P-256K"] | None = None
    public_exponent: Literal[65537] | None = None
    release_policy: None = None


class UpdateKey(Strict):
    """PATCH /keys/{name}/{version}."""

    key_ops: list[KeyOperation] | None = None
    attributes: Attributes | None = None
    tags: Tags | None = None
    release_policy: None = None


class RestoreKey(Strict):
    """POST /keys/restore; the blob of a backup in base64url."""

    value: str


class Operation(Strict):
    """POST …/wrapkey, unwrapkey, encrypt, decrypt, sign; binary values in base64url."""

    alg: str
    value: str
    iv: str | None = None
    tag: str | None = None
    aad: str | None = None


class Verify(Strict):
    """POST …/verify."""

    alg: str
    digest: str
    value: str


class Trigger(Strict):
    """When."""

    time_after_create: str | None = Field(None, alias="timeAfterCreate")
    time_before_expiry: str | None = Field(None, alias="timeBeforeExpiry")


class ActionType(Strict):
    """What."""

    type: Literal["Rotate", "rotate", "Notify", "notify"]


class LifetimeAction(Strict):
    """One action of a rotation policy."""

    trigger: Trigger
    action: ActionType


class PolicyAttributes(Strict):
    """`expiryTime` is an ISO 8601 duration; the other two are read-only."""

    expiry_time: str | None = Field(None, alias="expiryTime")
    created: int | None = None
    updated: int | None = None


class RotationPolicy(Strict):
    """PUT /keys/{name}/rotationpolicy."""

    id: str | None = None
    lifetime_actions: list[LifetimeAction] | None = Field(None, alias="lifetimeActions")
    attributes: PolicyAttributes | None = None


def parsed(model: type[Body], exchange: Exchange) -> Body:
    """The body as this model, each value of its own JSON type. Raises VaultRefusedError 400 BadParameter."""
    try:
        return model.model_validate_json(json.dumps(exchange.json()), strict=True)
    except MalformedBodyError as error:
        raise bad_parameter(f"Failed to parse the request body: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(one) for one in first["loc"])
        raise bad_parameter(f"Property {where} has invalid value or is unknown: {first['msg']}") from error
