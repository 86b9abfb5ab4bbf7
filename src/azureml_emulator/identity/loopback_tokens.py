"""Who the client says it is: signed tokens of the loopback cloud, and their check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt

from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

TENANT = "22222222-2222-2222-2222-222222222222"
OWNER = "44444444-0000-4000-8000-000000000001"
"""Default object id of the caller."""
_SECRET = "the loopback cloud signs its tokens with this text"


def token(audience: str, seconds: float = 3600, **claims: object) -> str:
    """Return a token for an audience that expires after some seconds; claims may replace its own."""
    moment = int(time.time())
    content: Json = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "tid": TENANT,
        "oid": OWNER,
        "iat": moment,
        "nbf": moment - 300,
        "exp": moment + int(seconds),
    }
    return jwt.encode({**content, **claims}, _SECRET, algorithm="HS256")


class LoopbackCredential:
    """A credential that the SDK accepts; tests may make it wrong.

    Args:
        principal: Object id that signs in.
        audience: Claims another audience than the requested one.
        seconds: How long its tokens are valid; negative for expired ones.
    """

    def __init__(self, audience: str = "", seconds: float = 3600, principal: str = OWNER) -> None:
        self._principal = principal
        self._audience = audience
        self._seconds = seconds

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token for the first scope."""
        from azure.core.credentials import AccessToken

        audience = self._audience or scopes[0].removesuffix("/.default")
        # The client must believe that an expired token is valid, or it would not send it.
        return AccessToken(token(audience, self._seconds, oid=self._principal), int(time.time() + abs(self._seconds)))


def check(authorization: str, audiences: tuple[str, ...]) -> Json:
    """Return the claims of the token in a header ``Authorization``.

    Args:
        authorization: Value of the header.
        audiences: Audiences that the token may have; a slash at the end is ignored.

    Raises:
        ServiceRefusalError: 401, it is missing, malformed, not ours, expired or has another audience.
    """
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise _refusal("AuthenticationFailed", "the request has no bearer token")
    try:
        accepted = [form for audience in audiences for form in (audience, f"{audience}/", f"{audience}//")]
        claims: Json = jwt.decode(
            text, _SECRET, algorithms=["HS256"], audience=accepted, options={"require": ["exp", "tid", "oid"]}
        )
    except jwt.InvalidAudienceError as error:
        raise _refusal("InvalidAuthenticationTokenAudience", f"the token is not meant for {audiences[0]}") from error
    except jwt.ExpiredSignatureError as error:
        raise _refusal("ExpiredAuthenticationToken", "the token has expired") from error
    except jwt.InvalidTokenError as error:
        raise _refusal("InvalidAuthenticationToken", f"the token is not valid: {error}") from error
    return claims


def _refusal(code: str, message: str) -> ServiceRefusalError:
    # As the resource manager writes it: where to sign in, and what is wrong with the token.
    challenge = f'Bearer authorization_uri="https://login.windows.net/{TENANT}", error="invalid_token"'
    return ServiceRefusalError(401, code, message, {"WWW-Authenticate": f'{challenge}, error_description="{message}"'})
