"""The certificate of a TLS run: one authority, made for the run and trusted only by its contenders.

They are told by ``SSL_CERT_FILE``, the setting that OpenSSL, aiohttp, httpx and google-genai read alike: so each keeps
its own connector and its own context, as a user of a public gateway has them.
"""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["Certificate", "issued"]


@attrs.frozen
class Certificate:
    """Files in PEM.

    Attributes:
        server: The gateway's key and certificate.
        authority: Who signed it.
    """

    server: Path
    authority: Path

    @property
    def settings(self) -> dict[str, str]:
        """What is added to a contender's environment."""
        return {"SSL_CERT_FILE": str(self.authority)}


def issued(folder: Path) -> Certificate:
    """Issue one for the loopback, into `folder`.

    Raises:
        ImportError: trustme is not installed.
    """
    import trustme  # noqa: PLC0415 - runs without TLS do without it

    certificate = Certificate(folder / "server.pem", folder / "authority.pem")
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate.server))
    authority.cert_pem.write_to_path(str(certificate.authority))
    return certificate
