"""The content of a hand-over: the application, the required vaults and keys, and how to create them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final

from cmk_operator.core.identifiers.region_failover import warning_of

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.cloud import Cloud
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.core.kinds.key_use import KeyUse

SERVICE_ENCRYPTION_USER: Final = "Key Vault Crypto Service Encryption User"
CRYPTO_USER: Final = "Key Vault Crypto User"
READER: Final = "Key Vault Reader"
ROLE_IDS: Final = {
    SERVICE_ENCRYPTION_USER: "e147488a-f6f5-4113-8e2d-b22465e65bf6",
    CRYPTO_USER: "12338af0-0e69-4776-bea7-57ae8d297424",
    READER: "21090545-7ca7-4776-b22c-e363652d74d2",
}
"""Source: Azure role-based access control, "Azure built-in roles"."""

SIZES: Final = (2048, 3072, 4096)
LEAST_ROTATION_DAYS: Final = 7
LEAST_EXPIRY_DAYS: Final = 28
_PRIVATE: Final = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_GUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REGION: Final = re.compile("[a-z0-9]{2,40}")
_RESOURCE_GROUP: Final = re.compile(r"(?!.*\.$)[A-Za-z0-9_(][A-Za-z0-9_().-]{0,89}")
_WORKSPACE: Final = re.compile(
    "/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/'\"$]+/providers/Microsoft.OperationalInsights/workspaces/[A-Za-z0-9-]+",
    re.IGNORECASE,
)
_SUBNET: Final = re.compile(
    "/subscriptions/[0-9a-f-]{36}/resourceGroups/[A-Za-z0-9_().-]+/providers/Microsoft.Network/virtualNetworks/[A-Za-z0-9_.-]+"
    "/subnets/[A-Za-z0-9_.-]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A key in the customer's vault, what it will protect, and the regions of the disks that it protects."""

    uri: KeyUri
    uses: tuple[KeyUse, ...] = ()
    disk_regions: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """Data of resources on the key that the key does not protect now, one line for each resource."""

    @property
    def shown_uses(self) -> str:
        """What it protects, as the end of a sentence."""
        return " and ".join(use.protects for use in self.uses) or "what the provider will move to it"


@dataclass(frozen=True, slots=True)
class WantedVault:
    """A vault by its host name, with its required keys sorted by name."""

    host: str
    keys: tuple[WantedKey, ...]

    @property
    def name(self) -> str:
        """The name of the vault: the first label of its host."""
        return self.host.split(".", maxsplit=1)[0]

    @property
    def disk_regions(self) -> tuple[str, ...]:
        """The regions of all disks that any key of the vault protects."""
        return tuple(sorted({region for key in self.keys for region in key.disk_regions}))

    @property
    def uses(self) -> frozenset[KeyUse]:
        """What the keys of the vault protect."""
        return frozenset(use for key in self.keys for use in key.uses)


@dataclass(frozen=True, slots=True)
class WantedApplication:
    """The application with which a service reads the key for one account, instead of the provider's."""

    service: str
    """The service's name, such as `Snowflake`."""
    account: str
    consent_url: str | None
    principal_name: str | None
    subnets: tuple[str, ...]
    keys: tuple[KeyUri, ...]
    operations: tuple[str, ...]
    """What the service does with the key."""

    @property
    def application(self) -> str | None:
        """Client id of the service's application, from the consent URL; None until the service reports it."""
        found = re.search(f"[?&]client_id=({_GUID.pattern})(?:&|$)", self.consent_url or "")
        return found[1].lower() if found else None

    @property
    def label(self) -> str:
        """The service's name as a part of variable names."""
        return re.sub("[^a-z0-9]", "", self.service.lower())

    @property
    def usable_subnets(self) -> tuple[str, ...]:
        """The subnets that are valid subnet ids; the service reports them, so they are untrusted."""
        return tuple(subnet for subnet in self.subnets if _SUBNET.fullmatch(subnet))


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything that the customer must know about the provider."""

    tenant: str
    tenant_id: str
    cloud: Cloud
    application: str
    application_name: str | None
    consent_url: str
    vaults: tuple[WantedVault, ...]
    applications: tuple[WantedApplication, ...] = ()
    """Applications of services that do not use the provider's."""

    @property
    def shown_application(self) -> str:
        """The application's name, if it has one, and client id."""
        return f"{printable(self.application_name)} ({self.application})" if self.application_name else self.application


@dataclass(frozen=True, slots=True)
class Choices:
    """Options that the provider's engineer may set for the customer; the customer chooses those that are None."""

    resource_group: str | None = None
    location: str | None = None
    subscription: str | None = None
    retention_days: int = 90
    key_size: int = 2048
    hardware: bool = False
    rotate_after_days: int | None = None
    expire_after_days: int | None = None
    grant_on_vault: bool = False
    reader: bool = False
    addresses: tuple[str, ...] = ()
    workspace: str | None = None

    @property
    def key_type(self) -> str:
        """The key type as Key Vault spells it."""
        return "RSA-HSM" if self.hardware else "RSA"

    @property
    def sku(self) -> str:
        """The vault's SKU; keys in hardware need a premium vault."""
        return "premium" if self.hardware else "standard"


def printable(text: str | None) -> str:
    """The text with unprintable characters replaced; in a comment, a line break from an untrusted name would start a command."""
    return "".join(sign if sign.isprintable() else "?" for sign in text or "")


def judge(handover: Handover, choices: Choices) -> tuple[str, ...]:
    """The errors in the options, one sentence each; the caller must write nothing unless this is empty."""
    return (*_judge_place(handover, choices), *_judge_key(handover, choices), *_judge_network(choices))


def warnings(handover: Handover, choices: Choices) -> tuple[str, ...]:
    """Warnings about the chosen regions, one sentence each; they block nothing."""
    chosen = {region for vault in handover.vaults if (region := chosen_region(choices, vault)) is not None}
    return tuple(warning for region in sorted(chosen) if (warning := warning_of(region)) is not None)


def chosen_region(choices: Choices, vault: WantedVault) -> str | None:
    """The region of a new vault: from the options, or else from its disks; None if the customer chooses it."""
    return choices.location or next(iter(vault.disk_regions), None)


def _judge_place(handover: Handover, choices: Choices) -> tuple[str, ...]:
    found: list[str] = []
    named = choices.location is not None and _REGION.fullmatch(choices.location) is not None
    if choices.location is not None and not named:
        found.append(f"{choices.location!r} is not the name of a region, such as westeurope")
    if choices.resource_group is not None and not _RESOURCE_GROUP.fullmatch(choices.resource_group):
        found.append(f"{choices.resource_group!r} is not the name of a resource group")
    if choices.subscription is not None and not _GUID.fullmatch(choices.subscription):
        found.append(f"{choices.subscription!r} is not the id of a subscription")
    for vault in handover.vaults:
        regions = vault.disk_regions
        if len(regions) > 1:
            found.append(
                f"keys of vault {vault.name} protect disks in {' and '.join(regions)}: each region needs its own vault"
            )
        elif regions and named and choices.location != regions[0]:
            found.append(f"vault {vault.name} must be in {regions[0]}, the region of the disks that it protects")
    return tuple(found)


def _judge_key(handover: Handover, choices: Choices) -> tuple[str, ...]:
    found: list[str] = []
    if not 7 <= choices.retention_days <= 90:
        found.append("retention must be 7 to 90 days")
    if choices.key_size not in SIZES:
        found.append(f"an RSA key has {', '.join(map(str, SIZES))} bits")
    else:
        refusing = {use for vault in handover.vaults for use in vault.uses if not use.takes(choices.key_size)}
        found += sorted(f"{use.protects} take keys of {use.shown_sizes}" for use in refusing)
    rotate, expire = choices.rotate_after_days, choices.expire_after_days
    if rotate is not None and rotate < LEAST_ROTATION_DAYS:
        found.append(f"a key may rotate after {LEAST_ROTATION_DAYS} days at the earliest")
    if expire is not None and expire < LEAST_EXPIRY_DAYS:
        found.append(f"a version may expire after {LEAST_EXPIRY_DAYS} days at the earliest")
    if expire is not None and (rotate is None or rotate + LEAST_ROTATION_DAYS > expire):
        found.append(f"versions that expire must be rotated at least {LEAST_ROTATION_DAYS} days before, otherwise data stops")
    return tuple(found)


def _judge_network(choices: Choices) -> tuple[str, ...]:
    found: list[str] = []
    for text in choices.addresses:
        try:
            network = IPv4Network(text)
        except ValueError:
            found.append(f"{text!r} is not an IPv4 address or range, such as 203.0.113.10 or 203.0.113.0/28")
            continue
        if any(network.overlaps(private) for private in _PRIVATE):
            found.append(f"{text} is private: Key Vault sees public addresses only")
    if choices.workspace is not None and not _WORKSPACE.fullmatch(choices.workspace):
        found.append(f"{choices.workspace!r} is not the id of a Log Analytics workspace")
    return tuple(found)
