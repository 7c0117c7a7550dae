"""Settings of the key service's process, from flags and environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import CliSuppress, SettingsConfigDict

from cmk_operator.process_settings import ProcessSettings

PREFIX = "CMK_KEYSERVICE_"


class DatabaseSettings(ProcessSettings):
    """Which database, and how to log."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, cli_kebab_case=True, cli_hide_none_type=True)

    database_url: CliSuppress[SecretStr | None] = Field(
        default=None,
        description="URL of the PostgreSQL database. By the environment only: a flag would show its password to every process.",
    )
    database_url_file: Path | None = Field(
        default=None, description="File that holds the URL of the PostgreSQL database, postgresql://user:password@host/name."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Format of log lines on standard error.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest severity that is logged."
    )

    @model_validator(mode="after")
    def _name_one_database(self) -> Self:
        if (self.database_url is None) == (self.database_url_file is None):
            raise ValueError(f"set one of {PREFIX}DATABASE_URL and --database-url-file ({PREFIX}DATABASE_URL_FILE)")
        return self

    def database(self) -> str:
        """The URL of the database. Raises `OSError` if its file cannot be read."""
        if self.database_url_file is not None:
            return self.database_url_file.read_text(encoding="utf-8").strip()
        return self.database_url.get_secret_value() if self.database_url is not None else ""


class MigrateSettings(DatabaseSettings):
    """Bring the tables of the database to this release, and end."""

    model_config = SettingsConfigDict(cli_prog_name="cmk-keyservice migrate")


class SealSettings(DatabaseSettings):
    """Seal all rows of the database by the primary key of the internal key ring, and end."""

    model_config = SettingsConfigDict(cli_prog_name="cmk-keyservice seal-again")

    internal_keyring_file: Path = Field(description="File with the internal key ring.")


class ServeSettings(DatabaseSettings):
    """Serve callers until SIGTERM.

    Every flag can also be set by the environment variable CMK_KEYSERVICE_<NAME>.
    """

    model_config = SettingsConfigDict(cli_prog_name="cmk-keyservice serve")

    listen_address: str = Field(default="0.0.0.0", description="Address of both listeners.")  # noqa: S104 - callers come from other pods
    port: int = Field(default=8443, ge=0, le=65535, description="Port for callers, with TLS.")
    metrics_port: int = Field(
        default=9090, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics, without TLS and without any data."
    )
    tls_certificate_file: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain. Read again when it changes."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file with the private key of the certificate.")
    insecure_http: bool = Field(
        default=False, description="Serve callers without TLS, on a loopback address only: for a proxy in the same pod."
    )
    audience: str = Field(default="cmk-key-service", min_length=1, description="Audience that callers' tokens must have.")
    internal_keyring_file: Path = Field(description="File with the internal key ring (`cmk-keyservice new-keyring`).")
    platform_keyring_file: Path = Field(
        description="File with the platform's key ring, the root of organizations without a key of their own."
    )
    federated_token_file: Path | None = Field(
        default=None,
        description="File with the ServiceAccount token that Entra accepts; if unset: what AZURE_FEDERATED_TOKEN_FILE names.",
    )
    review_seconds: float = Field(default=60.0, gt=0, le=600, description="Seconds for which a caller's rights are remembered.")
    review_outage_grace: float = Field(
        default=600.0, ge=0, le=3600, description="Seconds for which they are used longer while the API server does not answer."
    )
    confirm_seconds: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Seconds after which a refusal by an organization's key is confirmed by a second try.",
    )
    lease_seconds: float = Field(
        default=60.0, gt=0, le=300, description="Most seconds for which a caller may hold a data key, and a use of one lasts."
    )
    epoch_days: float = Field(default=90.0, gt=0, le=3650, description="Days after which a purpose gets a new data key.")
    cached_data_keys: int = Field(default=10_000, ge=1, le=1_000_000, description="Most data keys held in memory.")
    vault_calls: int = Field(
        default=1_000, ge=1, description="Calls to each vault in 10 s; background work takes a quarter at most."
    )
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="Seconds for which callers are still served after SIGTERM, until none is sent here.",
    )
    shutdown_grace: float = Field(default=20.0, ge=1, le=300, description="Seconds for running requests to end after that.")
    instance: str = Field(
        default="cmk-keyservice",
        min_length=1,
        description="Name of this replica in log lines and locks; if unset: HOSTNAME.",
    )

    @model_validator(mode="after")
    def _encrypt_what_callers_send(self) -> Self:
        files = (self.tls_certificate_file, self.tls_key_file)
        if self.insecure_http:
            if any(files):
                raise ValueError("set either the files of a certificate or --insecure-http")
            if self.listen_address not in {"127.0.0.1", "::1", "localhost"}:
                raise ValueError(
                    "--insecure-http needs --listen-address 127.0.0.1: plaintext and keys must not cross a network"
                )
        elif not all(files):
            raise ValueError("set --tls-certificate-file and --tls-key-file: callers send plaintext, and their tokens")
        return self


class ConsoleSettings(ProcessSettings):
    """Serve the page for organizations' administrators until SIGTERM, as one replica: who is signed in is kept in its memory.

    Every flag can also be set by the environment variable CMK_KEYSERVICE_<NAME>.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, cli_kebab_case=True, cli_hide_none_type=True, cli_prog_name="cmk-keyservice console"
    )

    public_url: str = Field(
        pattern=r"^https?://[^/?#@]+$",
        description="Scheme and host under which browsers reach the page, such as https://encryption.example.com.",
    )
    listen_address: str = Field(default="0.0.0.0", description="Address of the listener.")  # noqa: S104 - browsers come from outside the pod
    port: int = Field(default=8443, ge=0, le=65535, description="Port for browsers.")
    tls_certificate_file: Path | None = Field(default=None, description="PEM file with the certificate and its chain.")
    tls_key_file: Path | None = Field(default=None, description="PEM file with the private key of the certificate.")
    insecure_http: bool = Field(
        default=False, description="Serve without TLS, on a loopback address only: for a proxy in the same pod."
    )
    issuer: str = Field(
        pattern="^https://[^?#]+$",
        description="The provider's OpenID Connect issuer. For Entra: https://login.microsoftonline.com/TENANT-ID/v2.0.",
    )
    client_id: str = Field(min_length=1, description="Client id of the page at that issuer.")
    client_secret_file: Path = Field(description="File with its client secret. Read at each sign-in.")
    subject_claim: str = Field(
        default="sub",
        pattern="^[A-Za-z_]+$",
        description="Claim that members' `subject` names. It must never be given to another person: oid for Entra, not a name or mail.",
    )
    federated_token_file: Path | None = Field(
        default=None,
        description="File with a ServiceAccount token that Entra accepts from the platform's application, for sign-ins at "
        "customers' tenants; if unset: what AZURE_FEDERATED_TOKEN_FILE names.",
    )
    operator_namespace: str = Field(
        default="cmk-operator-system",
        pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="Namespace of the operator, whose ConfigMaps hold the audit record.",
    )
    break_glass_folder: Path | None = Field(
        default=None,
        description="Folder with the mounted Secret of break-glass accounts (cmk-keyservice break-glass). Without it there are none.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Format of log lines on standard error.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest severity that is logged."
    )

    @model_validator(mode="after")
    def _encrypt_what_browsers_send(self) -> Self:
        files = (self.tls_certificate_file, self.tls_key_file)
        if not self.insecure_http and not all(files):
            raise ValueError("set --tls-certificate-file and --tls-key-file: browsers send credentials")
        if self.insecure_http and (any(files) or self.listen_address not in {"127.0.0.1", "::1", "localhost"}):
            raise ValueError("--insecure-http needs --listen-address 127.0.0.1, and takes no certificate")
        if not self.public_url.startswith("https://") and urlsplit(self.public_url).hostname != "127.0.0.1":
            raise ValueError("public_url must begin with https://: cookies and credentials must not cross a network")
        return self


VARIABLES: Final = frozenset[str]().union(
    *(kind.variables() for kind in (ServeSettings, ConsoleSettings, MigrateSettings, SealSettings))
)
"""The environment variables that some command reads: one environment may serve several commands."""
