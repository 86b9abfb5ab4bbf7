"""The certificate authorities that an HTTP client trusts: those of httpx, and those that the Azure SDK uses."""

from __future__ import annotations

import os
import ssl

from vision_mlops.core.errors import ConfigError


def trusting_context(url: str) -> ssl.SSLContext:
    """Create a context that verifies certificates, also with the authorities in the file that REQUESTS_CA_BUNDLE names.

    Raises:
        ConfigError: that file cannot be used.
    """
    import httpx

    if not url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # has no authorities, and needs none
    context = httpx.create_ssl_context()
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE", ""):
        try:
            context.load_verify_locations(bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the file of trusted authorities {bundle!r} cannot be used: {error}",
                "fix or unset REQUESTS_CA_BUNDLE",
            ) from error
    return context
