"""The emulator's own certificate authority, and the single certificate that all of its services use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from azureml_emulator.rest.cloud_addresses import CERTIFICATE_NAMES


@dataclass(frozen=True)
class Certificates:
    """Files of an authority that clients must trust, and of the certificate that it has signed for loopback."""

    authority: Path
    key: Path
    chain: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Return the certificates in a folder; create them if it has none, or if they are for other host names."""
        made = cls(folder / "authority.pem", folder / "key.pem", folder / "chain.pem")
        names, wanted = folder / "names.txt", "\n".join(CERTIFICATE_NAMES)
        if made.authority.exists() and names.exists() and names.read_text(encoding="utf-8") == wanted:
            return made
        import trustme

        authority = trustme.CA()
        leaf = authority.issue_cert(*CERTIFICATE_NAMES)
        folder.mkdir(parents=True, exist_ok=True)
        made.key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(made.key)
        made.chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        authority.cert_pem.write_to_path(made.authority)
        names.write_text(wanted, encoding="utf-8")  # last: if it exists, all others do
        return made
