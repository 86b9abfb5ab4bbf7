"""Refusals in the form of Microsoft.Web, which differs from that of the resource manager: keys begin with capitals."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from azureml_emulator.rest.rest_calls import ServiceRefusalError


class WebRefusalError(ServiceRefusalError):
    """The service refuses a call."""

    def response(self) -> Response:
        """Return the refusal as a response: ``Code`` and ``Message``, and both again in the details."""
        details = [{"Message": self.message}, {"Code": self.code}, {"ErrorEntity": {"Code": self.code}}]
        body = {"Code": self.code, "Message": self.message, "Target": None, "Details": details, "Innererror": None}
        return JSONResponse(body, self.status, headers=self.headers)


def conflict(message: str) -> WebRefusalError:
    """Return the refusal of a change that conflicts with the current state."""
    return WebRefusalError(409, "Conflict", message)


def not_found(kind: str, name: str, group: str) -> ServiceRefusalError:
    """Return the refusal of something that does not exist, which the resource manager itself sends."""
    message = f"The Resource 'Microsoft.Web/{kind}/{name}' under resource group '{group}' was not found."
    return ServiceRefusalError(404, "ResourceNotFound", message)
