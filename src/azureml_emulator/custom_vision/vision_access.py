"""Who may call Custom Vision, and how often: keys, tokens with roles, and the rate of calls."""

from __future__ import annotations

import hmac
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.custom_vision.account_routes import PREDICTION, TRAINING, VisionAccounts
from azureml_emulator.custom_vision.sku_limits import SkuLimits
from azureml_emulator.custom_vision.vision_refusals import GatewayRefusalError
from azureml_emulator.identity.loopback_tokens import check
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import RestCall, ServiceRefusalError, route

AUDIENCE = "https://cognitiveservices.azure.com"
HOST = "/cognitiveservices/{host}"
"""The host of an account, as a route."""
_API = {TRAINING: "/customvision/{version}/training", PREDICTION: "/customvision/{version}/prediction"}
# The last release of Microsoft's SDK requests the preview, which extends v3.3; the extensions are not emulated.
_VERSIONS = {TRAINING: ("v3.3", "v3.4-preview"), PREDICTION: ("v3.1",)}
_KEY_HEADERS = {TRAINING: "training-key", PREDICTION: "prediction-key"}
_VERBS = {"GET": "read", "PATCH": "write", "DELETE": "delete"}
VisionHandler = Callable[[RestResource, RestCall], Response]
"""Handles a call to an account."""


class VisionAccess:
    """The gateway before the two APIs.

    Args:
        subscription: Knows the roles.
        accounts: The existing accounts.
        limits: Limits by the name of the pricing tier.

    Attributes:
        clock: Returns seconds, for the rate of calls.
    """

    def __init__(self, subscription: Subscription, accounts: VisionAccounts, limits: dict[str, SkuLimits]) -> None:
        self._subscription = subscription
        self._accounts = accounts
        self._limits = limits
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self.clock: Callable[[], float] = time.monotonic

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._recent.clear()

    def limits_of(self, account: RestResource) -> SkuLimits:
        """Return the limits of an account."""
        return self._limits[str(account.body["sku"]["name"])]

    def route(self, kind: str, path: str, **handlers: VisionHandler) -> Route:
        """Return a path of the API of a kind of account, and the handler of each method."""
        words = "/".join(word for word in path.split("/") if word and not word.startswith("{"))

        def opened(handler: VisionHandler) -> Callable[[RestCall], Response]:
            return lambda call: handler(self._enter(kind, words, call), call)

        answered = {name: opened(handler) for name, handler in handlers.items()}
        return route(HOST + _API[kind] + path, None, parsed=False, **answered)

    def _enter(self, kind: str, words: str, call: RestCall) -> RestResource:
        """Return the account of a call, which the caller may make. Raises ServiceRefusalError."""
        if call.names["version"].lower() not in _VERSIONS[kind]:
            message = f"Resource not found: the versions of this API here are {', '.join(_VERSIONS[kind])}."
            raise GatewayRefusalError(404, "404", message)
        candidates = [item for item in self._accounts.named(call.names["host"]) if item.body["kind"] == kind]
        if not candidates and not call.names["host"].endswith(".api"):
            raise GatewayRefusalError(
                404, "404", f"Resource not found: no account of the kind {kind} is available here."
            )
        key = call.headers.get(_KEY_HEADERS[kind]) or call.headers.get("ocp-apim-subscription-key")
        account = self._by_key(candidates, key) if key else self._by_token(candidates, words, call)
        if account.properties.get("publicNetworkAccess") == "Disabled":
            raise GatewayRefusalError(403, "403", "Public access to the account is disabled: use a private endpoint.")
        self._take_call(account)
        return account

    def _by_key(self, candidates: list[RestResource], key: str) -> RestResource:
        for account in candidates:
            if any(hmac.compare_digest(key.encode(), known.encode()) for known in self._accounts.keys(account)):
                if account.properties.get("disableLocalAuth"):
                    message = "Key based authentication is disabled for this resource."
                    raise GatewayRefusalError(403, "AuthenticationTypeDisabled", message)
                return account
        raise GatewayRefusalError(401, "401", _DENIED)

    def _by_token(self, candidates: list[RestResource], words: str, call: RestCall) -> RestResource:
        header = call.headers.get("authorization", "")
        if not header:
            raise GatewayRefusalError(401, "401", _DENIED)
        if call.names["host"].endswith(".api"):
            message = "A token needs the custom subdomain of an account; the host of a region takes a key only."
            raise GatewayRefusalError(400, "BadRequest", message)
        try:
            claims = check(header, (AUDIENCE,))
        except ServiceRefusalError as refusal:
            raise GatewayRefusalError(401, "401", f"Access denied: {refusal.message}.") from refusal
        principal = str(claims.get("oid") or "")
        action = f"Microsoft.CognitiveServices/accounts/CustomVision/{words}/{_VERBS.get(call.method, 'action')}"
        if not self._subscription.roles.allows(principal, action, candidates[0].id, data=True):
            message = f"The principal {principal!r} lacks the data action {action!r}, which this {call.method} needs."
            raise GatewayRefusalError(401, "PermissionDenied", message)
        return candidates[0]

    def _take_call(self, account: RestResource) -> None:
        """Count a call; refuse it if there were too many in the last second. Raises ServiceRefusalError."""
        most = self.limits_of(account).calls
        if most is None:
            return
        with self._lock:
            moment, recent = self.clock(), self._recent[account.id.lower()]
            while recent and moment - recent[0] >= 1:
                recent.popleft()
            if len(recent) < most:
                recent.append(moment)
                return
        tier = account.body["sku"]["name"]
        message = f"The rate of {most} calls a second of the pricing tier {tier} is exceeded. Retry after 1 second."
        raise GatewayRefusalError(429, "429", message, {"Retry-After": "1"})


_DENIED = "Access denied: the key is missing or wrong, or it belongs to another account or endpoint."
