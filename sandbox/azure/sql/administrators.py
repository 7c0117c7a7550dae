"""Who may administer a server: the rules for login, password and the administrator of Entra.

https://learn.microsoft.com/azure/azure-sql/database/logins-create-manage
https://learn.microsoft.com/sql/relational-databases/security/password-policy
The codes are those of the REST reference of servers.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from sandbox.azure.sql.refusals import refused

if TYPE_CHECKING:
    from sandbox.azure.errors import ArmRefusedError
    from sandbox.azure.sql.bodies import ServerAdministrators, ServerProperties

RESERVED = frozenset(
    [
        "admin",
        "administrator",
        "azure_superuser",
        "dbmanager",
        "dbo",
        "guest",
        "loginmanager",
        "public",
        "root",
        "sa",
        "sysadmin",
        "serveradmin",
        "securityadmin",
    ]
)
SHORTEST, LONGEST, LONGEST_LOGIN = 8, 128, 128
KINDS, KINDS_NEEDED = ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"), 3
PART = 3
"""So many letters and digits of the login, one after the other, must not be in the password."""


def login_of_new(properties: ServerProperties) -> str:
    """The administrator's login of a server that is created with these properties. Raises ArmRefusedError 400."""
    administrators = _named(properties)
    if administrators is not None:
        _entra(administrators)
        if administrators.azure_ad_only_authentication and properties.administrator_login is None:
            if properties.administrator_login_password is not None:
                raise _login()
            return f"CloudSA{uuid.uuid4().hex[:8]}"
    login = properties.administrator_login or ""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_@.\-]*", login) or len(login) > LONGEST_LOGIN or login.lower() in RESERVED:
        raise _login()
    check_password(login, properties.administrator_login_password or "")
    return login


def check_changed(login: str, properties: ServerProperties) -> None:
    """A server keeps its login; its password may change. Raises ArmRefusedError 400."""
    if properties.administrator_login is not None and properties.administrator_login != login:
        raise refused(
            400, "InvalidParameterValue", "An invalid value was given to parameter 'administratorLogin': it cannot be changed."
        )
    if properties.administrator_login_password is not None:
        check_password(login, properties.administrator_login_password)


def check_password(login: str, password: str) -> None:
    """Length, kinds of characters, and nothing of the login in it. Raises ArmRefusedError 400, without the password."""
    if len(password) < SHORTEST:
        raise refused(400, "PasswordTooShort", "Password validation failed. The provided password is too short.")
    if len(password) > LONGEST:
        raise refused(400, "PasswordTooLong", "Password validation failed. The provided password is too long.")
    parts = {one[at : at + PART] for one in re.findall(r"[a-z0-9]+", login.lower()) for at in range(len(one) - PART + 1)}
    if sum(bool(re.search(one, password)) for one in KINDS) < KINDS_NEEDED or any(one in password.lower() for one in parts):
        raise refused(
            400,
            "PasswordNotComplex",
            "Password validation failed. The password does not meet policy requirements because it is not complex enough.",
        )


def _named(properties: ServerProperties) -> ServerAdministrators | None:
    """The administrator of Entra; the az CLI sends an object without any value where there is none."""
    given = properties.administrators
    return given if given is not None and any(value for value in given.sent().values()) else None


def _login() -> ArmRefusedError:
    return refused(400, "InvalidLoginName", "The provided login name is invalid.")


def _entra(administrators: ServerAdministrators) -> None:
    """An object of a directory needs its ids. Raises ArmRefusedError 400."""
    for name, value in (("sid", administrators.sid), ("tenantId", administrators.tenant_id)):
        try:
            uuid.UUID(value or ("" if name == "sid" else str(uuid.UUID(int=0))))
        except ValueError as error:
            raise refused(
                400, "InvalidParameterValue", f"An invalid value was given to parameter 'administrators.{name}'."
            ) from error
    if not administrators.login:
        raise refused(400, "InvalidParameterValue", "An invalid value was given to parameter 'administrators.login'.")


def administrators_shown(properties: ServerProperties, tenant_id: str) -> dict[str, Any] | None:
    """What a server tells about its administrator of Entra; never a password."""
    administrators = _named(properties)
    if administrators is None:
        return None
    given = {"administratorType": "ActiveDirectory", "tenantId": tenant_id, "azureADOnlyAuthentication": False}
    return {**given, **{name: value for name, value in administrators.sent().items() if value is not None}}
