"""Refusals of Custom Vision: those of the service itself, and those of the gateway before it, which have another form."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from azureml_emulator.rest.rest_calls import ServiceRefusalError


class VisionRefusalError(ServiceRefusalError):
    """The service refuses a call. The code is one of ``CustomVisionErrorCodes`` in the specification."""

    def response(self) -> Response:
        """Return the refusal as a response, with ``code`` and ``message`` at the top level."""
        return JSONResponse({"code": self.code, "message": self.message}, self.status, headers=self.headers)


class GatewayRefusalError(ServiceRefusalError):
    """The gateway before all Cognitive Services refuses a call: the key, the token, the role, or the rate of calls."""

    def response(self) -> Response:
        """Return the refusal as a response."""
        error = {"code": self.code, "message": self.message}
        return JSONResponse({"error": error}, self.status, headers=self.headers)


def bad_request(code: str, message: str) -> VisionRefusalError:
    """Return the refusal of a wrong request; the code follows ``BadRequest``, and may be empty."""
    return VisionRefusalError(400, f"BadRequest{code}", message)


def not_found(what: str, name: str) -> VisionRefusalError:
    """Return the refusal of a call about something that does not exist, such as ``Project``."""
    return VisionRefusalError(404, f"NotFound{what}", f"The {what.lower()} {name!r} was not found.")
