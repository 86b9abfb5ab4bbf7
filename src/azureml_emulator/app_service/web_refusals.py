"""Refusals in the form of Microsoft.Web, which is not that of the resource manager: the words begin with capitals."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from azureml_emulator.rest.rest_calls import ServiceRefusalError


class WebRefusalError(ServiceRefusalError):
    """The service says no."""

    def response(self) -> Response:
        """The refusal as an answer: ``Code`` and ``Message``, and both again among the details."""
        details = [{"Message": self.message}, {"Code": self.code}, {"ErrorEntity": {"Code": self.code}}]
        body = {"Code": self.code, "Message": self.message, "Target": None, "Details": details, "Innererror": None}
        return JSONResponse(body, self.status, headers=self.headers)


def conflict(message: str) -> WebRefusalError:
    """The refusal of what does not go together with what is there."""
    return WebRefusalError(409, "Conflict", message)


def not_found(kind: str, name: str, group: str) -> ServiceRefusalError:
    """The refusal of what does not exist, which the resource manager itself says."""
    message = f"The Resource 'Microsoft.Web/{kind}/{name}' under resource group '{group}' was not found."
    return ServiceRefusalError(404, "ResourceNotFound", message)
