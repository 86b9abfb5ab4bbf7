"""How Azure DevOps says no."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class RefusalError(Exception):
    """The service says no: status, and the key of the error's type."""

    def __init__(self, status: int, key: str, message: str) -> None:
        super().__init__(message)
        self.status, self.key, self.message = status, key, message

    def body(self) -> Json:
        """The error as the service writes it."""
        return {
            "$id": "1",
            "innerException": None,
            "message": self.message,
            "typeName": f"Microsoft.{self.key}, Microsoft",
            "typeKey": self.key,
            "errorCode": 0,
            "eventId": 3000,
        }


def not_found(what: str, key: str = "NotFoundException") -> RefusalError:
    return RefusalError(404, key, f"{what} does not exist, or you do not have permission to access it.")


def taken(key: str, message: str) -> RefusalError:
    return RefusalError(409, key, message)


def invalid(message: str, key: str = "InvalidRequestException") -> RefusalError:
    return RefusalError(400, key, message)


def forbidden(who: str, permission: str) -> RefusalError:
    message = f"TF400813: The user '{who}' is not authorized to access this resource: it lacks {permission}."
    return RefusalError(403, "AccessCheckException", message)
