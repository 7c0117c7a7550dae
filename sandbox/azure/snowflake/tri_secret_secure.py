"""The system functions of Tri-Secret Secure by self-registration.

https://docs.snowflake.com/en/user-guide/security-encryption-tss-self-serve; README.md says which texts are guesses.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.azure.endpoints import here
from sandbox.azure.key_vault import crypto
from sandbox.azure.key_vault.service_access import KeyUnreachableError
from sandbox.azure.snowflake.custody import in_words
from sandbox.azure.snowflake.errors import failed
from sandbox.azure.snowflake.model import Account, Change, KeyLocation, MasterKey, Registration

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.snowflake.custody import Custody
    from sandbox.azure.timings import Timings

_VAULT_URI = re.compile(r"https://([a-z][a-z0-9-]{1,22}[a-z0-9]\.vault\.azure\.net)(?::443)?/?", re.IGNORECASE)
_KEY_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_NONE = "CMK info has not been pre-registered in this account yet"
_TSS = "Tri-Secret Secure"


@dataclass(frozen=True)
class TriSecretSecure:
    """What the functions do to an account. Each raises SnowflakeRefusedError when Snowflake refuses."""

    custody: Custody
    clock: Clock
    timings: Timings

    def register(self, account: Account, vault_uri: str, key_name: str, private_link: str = "FALSE") -> str:
        """One key at a time; a registration starts the wait, and starts it anew for the same key."""
        host = _VAULT_URI.fullmatch(vault_uri)
        if host is None or not _KEY_NAME.fullmatch(key_name):
            raise failed(f"Invalid CMK information: vault URI '{vault_uri}', key name '{key_name}'.")
        if private_link.upper() not in {"TRUE", "FALSE"}:
            raise failed(f"Invalid value '{private_link}' for the private connectivity argument.")
        if private_link.upper() == "TRUE":
            raise failed("No private connectivity endpoint for Tri-Secret Secure has been provisioned in this account.")
        key = KeyLocation(host[1].lower(), key_name)
        before = account.registration
        if account.change is not None:
            raise failed("CMK cannot be registered while the account is being rekeyed.")
        if before is not None and key not in (before.key, account.master.key) and before.key != account.master.key:
            raise failed(
                f"CMK with KEY URI: {before.key.uri} is already pre-registered in this account. Call SYSTEM$DEREGISTER_CMK_INFO first."
            )
        account.registration = Registration(key, self.clock.now())
        account.emails.append(f"A customer-managed key was registered for {_TSS}: {key.uri}")
        return f"CMK with KEY URI: {key.uri} has been pre-registered for {_TSS}."

    def info(self, account: Account) -> str:
        """What is registered, activated, and under way."""
        if account.information:
            return account.information
        registered = account.registration.key if account.registration else None
        active = account.master.key
        if account.change is not None:
            target = account.change.to.key or active
            verb = "deactivated" if account.change.to.key is None else "rekeyed" if active else "activated"
            return f"CMK with KEY URI: {target.uri if target else ''} is being {verb} for {_TSS}."
        if registered is None:
            return f"{_NONE}, but CMK {active.uri} is activated with {_TSS}." if active else f"{_NONE}."
        if registered == active:
            return f"CMK with KEY URI: {active.uri} is activated for {_TSS}."
        if active:
            return f"CMK with KEY URI: {active.uri} is activated with {_TSS}, but CMK with KEY URI: {registered.uri} is pre-registered for {_TSS}."
        return f"CMK with KEY URI: {registered.uri} is pre-registered for {_TSS}."

    def config(self, account: Account, tenant_id: str) -> str:
        """For the customer: where to consent, and to whom to grant. The lone quotation mark at the end is Snowflake's."""
        if account.registration is None:
            raise failed(f"{_NONE}.")
        name = self.custody.application.display_name
        return f'Consent url is: {self._consent_url(tenant_id)} and Snowflake Service Principal name is: {name}"'

    def consent_url(self, account: Account, identifier: str, tenant_id: str) -> str:
        """The first half of `config` alone."""
        if identifier.upper().replace("_", "-") not in {account.name.upper(), account.locator.upper()}:
            raise failed(f"Account identifier '{identifier}' is not this account.")
        return self._consent_url(tenant_id)

    def _consent_url(self, tenant_id: str) -> str:
        try:
            tenant = str(uuid.UUID(tenant_id))
        except ValueError as error:
            raise failed(f"Invalid tenant id '{tenant_id}'.") from error
        return f"{here().authority}/{tenant}/oauth2/authorize?client_id={self.custody.application.app_id}&response_type=code"

    def verify(self, account: Account) -> str:
        """A row either way, never an error."""
        if account.registration is None:
            return f"Verification failed due to an exception with message: {_NONE}."
        key = account.registration.key
        try:
            self.custody.composed(key)
        except KeyUnreachableError as error:
            return f"Verification failed due to an exception with message: {in_words(error, key)}"
        return f"Verification of the CMK was successful. CMK KEY URI used: {key.uri}"

    def activate(self, account: Account, option: str = "") -> str:
        """Compose a new master key under the latest version, and begin to re-encrypt."""
        if account.change is not None:
            raise failed("The account is already being rekeyed. Try again after the rekeying is complete.")
        if option == "REKEY_SAME_CMK":
            if account.master.key is None:
                raise failed("There is no activated CMK to rekey with.")
            return self._begin(account, account.master.key)
        if option == "UPDATE_PRIVATELINK":
            raise failed("No private connectivity endpoint for Tri-Secret Secure has been provisioned in this account.")
        if option:
            raise failed(f"Invalid option '{option}'. Valid options are REKEY_SAME_CMK and UPDATE_PRIVATELINK.")
        if account.registration is None:
            raise failed(f"{_NONE}.")
        if account.registration.key == account.master.key:
            raise failed("The registered CMK is already activated. Use the option REKEY_SAME_CMK to rekey with it.")
        now = self.clock.now()
        left = account.registration.at + self.timings.snowflake_activation_wait_seconds - now
        if left > 0 and not account.approvals.replaces_the_wait(now):
            minutes = int(left // 60) + 1
            raise failed(
                f"CMK cannot be activated yet: it can be activated 72 hours after it was registered. Remaining wait time: "
                f"{minutes // 60} hours and {minutes % 60} minutes."
            )
        return self._begin(account, account.registration.key)

    def _begin(self, account: Account, key: KeyLocation) -> str:
        try:
            to = self.custody.composed(key)
        except KeyUnreachableError as error:
            raise failed(in_words(error, key)) from error
        account.change = Change(to, self.clock.now() + self.timings.snowflake_rekey_seconds)
        return (
            f"The activation of {_TSS} with CMK KEY URI: {key.uri} has started. The account administrators are notified by email when the "
            "rekeying is complete."
        )

    @staticmethod
    def deregister(account: Account) -> str:
        """The registration goes; what is activated stays."""
        if account.registration is None:
            raise failed(f"{_NONE}.")
        if account.change is not None:
            raise failed("CMK cannot be deregistered while the account is being rekeyed.")
        key, account.registration = account.registration.key, None
        return f"CMK with KEY URI: {key.uri} has been deregistered."

    def deactivate(self, account: Account) -> str:
        """Back to a master key that is Snowflake's alone."""
        if account.master.key is None:
            raise failed(f"{_TSS} is not activated in this account.")
        if account.change is not None:
            raise failed("The account is already being rekeyed. Try again after the rekeying is complete.")
        account.registration = None
        account.change = Change(MasterKey(crypto.new_data_key()), self.clock.now() + self.timings.snowflake_rekey_seconds)
        return f"The deactivation of {_TSS} has started. The account administrators are notified by email when it is complete."
