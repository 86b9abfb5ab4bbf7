"""The storage account's switch "allow storage account key access": what it refuses while it is off."""

from __future__ import annotations

from urllib.parse import parse_qs

CODE = "KeyBasedAuthenticationNotPermitted"
_MESSAGE = "Key based authentication is not permitted on this storage account."


class SharedKeyGate:
    """Checks how a request to the storage account is authorised.

    Attributes:
        allowed: Whether the account's keys, and signatures that were made with them, are accepted.
    """

    def __init__(self) -> None:
        self.allowed = True

    def refusal(self, query: str, authorization: str) -> str:
        """Return why a request is refused; empty if it is not.

        A signature by a user's delegation key names that user (``skoid``), unlike one by a key of the account.

        Args:
            query: Query of the address, without the question mark.
            authorization: Value of the header of that name; may be empty.
        """
        if self.allowed:
            return ""
        found = parse_qs(query)
        by_key = "sig" in found and "skoid" not in found
        return _MESSAGE if by_key or authorization.lower().startswith("sharedkey") else ""
