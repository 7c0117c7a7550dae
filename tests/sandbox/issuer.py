"""A real OpenID Connect issuer on loopback: discovery and keys over TLS, as a Kubernetes API server serves them."""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from pathlib import Path

AUDIENCE = "api://AzureADTokenExchange"
SERVICE_ACCOUNT = "system:serviceaccount:cmk-operator-system:cmk-operator"


class Issuer:
    """Signs ServiceAccount tokens; `rotate` brings a new signing key."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.ca = directory / "issuer-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {"/.well-known/openid-configuration": issuer.configuration(), "/openid/v1/jwks": issuer.jwks()}
                body = json.dumps(documents.get(self.path)).encode()
                self.send_response(200 if self.path in documents else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *unused: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.rotate()
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/openid/v1/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def jwks(self) -> dict[str, Any]:
        public = [
            jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid} for kid, key in self._keys.items()
        ]
        return {"keys": public}

    def rotate(self) -> None:
        self._kid = uuid.uuid4().hex
        self._keys[self._kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(
        self,
        subject: str = SERVICE_ACCOUNT,
        audience: str = AUDIENCE,
        *,
        expires_in: int = 3600,
        key: rsa.RSAPrivateKey | None = None,
    ) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": [audience],
            "iat": now - 7200,
            "nbf": now - 7200,
            "exp": now + expires_in,
        }
        return jwt.encode(claims, key or self._keys[self._kid], algorithm="RS256", headers={"kid": self._kid})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
