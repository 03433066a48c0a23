"""Check the other end of a TLS connection: it has a certificate for that host, of an authority that is trusted.

Twisted decides (`optionsForClientTLS`); here is which authorities it trusts, and what it found wrong, in words.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

_END = b"-----END CERTIFICATE-----"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?" + _END, re.DOTALL)
_NOT_TRUSTED = "certificate verify failed"
"""OpenSSL's words; it has told only Twisted which of its checks that was."""


def ignore_deprecations() -> None:
    """Let Twisted use what pyOpenSSL deprecates, where Python is to treat warnings as errors.

    Twisted makes the context of a listening port at each handshake until it succeeds, so that each would fail.
    """
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(OpenSSL|twisted)\.")


def certificates(pem: bytes) -> list[Certificate]:
    """Return the certificates of a file of authorities. Raises `ValueError` unless there is one and all can be read."""
    closed, end, _ = pem.rpartition(_END)  # a search for an end that is not there reads the rest each time
    try:
        found = [Certificate.loadPEM(each) for each in _PEM.findall(closed + end)]
    except (crypto.Error, ValueError):
        raise ValueError("a certificate in it cannot be read") from None
    if not found:
        raise ValueError("there is no certificate in it (PEM)")
    return found


def client_tls_options(host: str, ca_file: str) -> IOpenSSLClientConnectionCreator:
    """Return what lets a connection be with this host only; the system's authorities are trusted without a ``ca_file``.

    Raises `ValueError` and `OSError` when there are none in that file, or it cannot be read.
    """
    return optionsForClientTLS(host, trustRoot=trustRootFromCertificates(_of_file(ca_file)) if ca_file else None)


def _of_file(name: str) -> list[Certificate]:
    try:
        return certificates(Path(name).read_bytes())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def explain(error: Exception, host: str) -> str:
    """Return in one line what was wrong with a connection, by TLS or without."""
    if isinstance(error, (VerificationError, CertificateError)):
        return f"TLS: its certificate is of another host than {host}"
    if isinstance(error, SSL.Error):
        reasons = [str(each[-1]) for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        if _NOT_TRUSTED in reasons:
            return "TLS: its certificate is of nobody who is trusted here, or not of this time"
        return f"TLS: {', '.join(reasons) or 'the connection was broken off'}"
    return str(error) or type(error).__name__
