"""An authority of the emulator's own, and the one certificate that all of its services show."""

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
        """Those of a folder; new ones where it has none, or those of an emulator that knew other host names."""
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
        names.write_text(wanted, encoding="utf-8")  # last: where it is, all are
        return made
