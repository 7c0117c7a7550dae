"""The people around the operator: the provider's and the customer's administrators, and a client of the sandbox's controls.

They act only over HTTPS through the proxy, each with the client secret of their own tenant.
"""

from sandbox.administrators.control import SandboxControl
from sandbox.administrators.customer import CustomerAdministrator, OwnRegistration
from sandbox.administrators.identities import ProviderIdentity, Registrar
from sandbox.administrators.provider import ProviderAdministrator

__all__ = [
    "CustomerAdministrator",
    "OwnRegistration",
    "ProviderAdministrator",
    "ProviderIdentity",
    "Registrar",
    "SandboxControl",
]
