"""Errors of Custom Vision: what is wrong, where, and what to do about it."""

from __future__ import annotations

import httpx

from vision_mlops.azure.azure_errors import SIGN_IN
from vision_mlops.azure.rest_client import RetryableError, json_of, message_of
from vision_mlops.benchmark.custom_vision.service_account import ServiceAccount
from vision_mlops.config.custom_vision_settings import PREDICTION_ID, PREFIX
from vision_mlops.core.errors import AzureError

RETIRED = "2028-09-25"
"""The day on which the service ends."""
TRAINING_NOT_NEEDED = frozenset(
    {"BadRequestTrainingNotNeeded", "BadRequestTrainingNotNeededButTrainingPipelineUpdated"}
)
TRAINING_IN_PROGRESS = "BadRequestTrainingAlreadyInProgress"
TOO_MANY_ITERATIONS = "BadRequestExceedIterationPerProjectLimit"
IS_PUBLISHED = "BadRequestIterationIsPublished"
NOT_PUBLISHED = "BadRequestIterationNotPublished"
NOT_UNIQUE = frozenset({"BadRequestProjectNameNotUnique", "BadRequestTagNameNotUnique"})
NOT_PUBLISHED_HERE = frozenset({"NotFoundIteration", "NotFoundProject"})
"""Of a prediction."""
TOO_LARGE_BATCH = frozenset({"BadRequestExceededBatchSize", "BadRequestImageBatch", "BadRequestImageExceededCount"})
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_CLEAN = "`mlops benchmark clean --workload {workload} --with custom-vision` removes what earlier benchmarks created"
_FREE_QUOTA = f"wait until the month is over, or use accounts of the SKU S0, which costs money, and set {PREFIX}SKU=S0"
_TOO_FEW = "each class needs 5 different images, and the data two classes: add images, or remove the class"
_HINTS = {
    "BadRequestExceededBatchSize": "a request may have 64 images and 20 tags: this is a bug, please report it",
    "BadRequestExceededQuota": f"a limit of the SKU is reached: {_FREE_QUOTA}; or {_CLEAN}",
    "BadRequestExceedProjectLimit": f"the account has as many projects as its SKU allows (F0: 2): {_CLEAN}, or delete one",
    "BadRequestProjectNameNotUnique": "someone is creating or deleting the project of that name: try again in a minute",
    "BadRequestExceedTagPerProjectLimit": "the SKU allows fewer classes (F0: 50, S0: 500)",
    TOO_MANY_ITERATIONS: "a project has at most 20 iterations: unpublish and delete an unused one",
    "BadRequestTrainingNotNeeded": "nothing has changed since the last training",
    TRAINING_IN_PROGRESS: "the project is being trained: run the same command again, which waits for it",
    IS_PUBLISHED: "unpublish the iteration first",
    "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining": (
        f"advanced training needs more hours: set {PREFIX}HOURS to a larger number, or {PREFIX}TRAINING=quick"
    ),
    "BadRequestDomainNotSupportedForAdvancedTraining": f"set {PREFIX}DOMAIN to another domain, or {PREFIX}TRAINING=quick",
    "BadRequestInvalidPublishTarget": (
        f"set {PREFIX}PREDICTION_ID to the resource id of the account that predicts; it must be in the region and"
        " subscription of the account that trains"
    ),
    "BadRequestTrainingValidationFailed": _TOO_FEW,
    "BadRequestClassificationTrainingValidationFailed": _TOO_FEW,
    "BadRequestMultiClassClassificationTrainingValidationFailed": _TOO_FEW,
    "BadRequestImageFormat": "the service accepts JPEG, PNG, BMP and GIF",
    "BadRequestImageSizeBytes": "an image may have 6 MB for training, and 4 MB for predictions",
    "ForbiddenDRModeEnabled": "the service is in disaster recovery and accepts no changes: try again later",
}


class VisionError(AzureError):
    """Custom Vision refuses, or cannot be reached. ``code`` is its name for the reason; empty if it gives none."""

    def __init__(self, message: str, hint: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(message, hint, status)
        self.code = code


class BusyError(VisionError, RetryableError):
    """The same call may succeed a little later."""


class GaveUpError(VisionError):
    """The service stayed busy or unreachable in all attempts."""


def refusal(account: ServiceAccount, response: httpx.Response) -> VisionError:
    """Return the error for a response that is not a success."""
    status = response.status_code
    code, message = _told(response)
    text = f"Custom Vision: {message} (HTTP {status}{f' {code}' if code and code != str(status) else ''})"
    if "quota" in message.lower() and status in (403, 429):
        return VisionError(text, _FREE_QUOTA, status, code)
    if status in _BUSY:
        busy = BusyError(text, "try again in some minutes: what is done is kept", status, code)
        return busy.with_wait(response, was_refused=status == 429)
    # A missing role is also reported with 401.
    if code == "PermissionDenied" or (status == 403 and code not in _HINTS):
        return VisionError(text, _forbidden(account, f"{code} {message}"), status, code)
    if status in (301, 302, 401):
        return _unauthorised(account, text, status, code)
    if account.verb == "predict" and code in NOT_PUBLISHED_HERE:
        return VisionError(
            f"{text}: the account at {account.endpoint} does not have the published model",
            f"{account.variable('ENDPOINT')} and {PREDICTION_ID} belong to different accounts: set both to the one that"
            " predicts, then run the same command again, which does not train again",
            status,
            code,
        )
    if status == 404 and not code.startswith("NotFound"):
        return VisionError(
            f"{text}: Custom Vision is not at {account.endpoint}",
            f"set {account.variable('ENDPOINT')} to the address of the account that {account.verb}s",
            status,
            code,
        )
    hint = _HINTS.get(code, "change what the message names").format(workload=account.workload)
    return VisionError(text, hint, status, code)


def _unauthorised(account: ServiceAccount, text: str, status: int, code: str) -> VisionError:
    if account.key:
        message = f"{text}: the account at {account.endpoint} does not accept {account.variable('KEY')}"
        hint = (
            "copy the key again: az cognitiveservices account keys list --resource-group GROUP --name NAME --query key1;"
            " the accounts that train and predict have different keys"
        )
    else:
        message = f"{text}: the account at {account.endpoint} does not accept this sign-in"
        hint = f"{SIGN_IN}; or set {account.variable('KEY')}"
    return VisionError(message, hint, status, code)


def _forbidden(account: ServiceAccount, told: str) -> str:
    if account.key:
        off = "the account accepts no keys" if "auth" in told.lower() else "the key is for something else"
        return f"{off}: unset {account.variable('KEY')} and sign in with `az login`"
    return (
        f"ask for the role Cognitive Services Custom Vision Contributor on the account that {account.verb}s, and wait some"
        " minutes until it has taken effect"
    )


def _told(response: httpx.Response) -> tuple[str, str]:
    """Return code and message of the service, or of the gateway in front of it, which wraps them, on one line."""
    content = json_of(response)
    if isinstance(content, dict) and isinstance(content.get("error"), dict):
        content = content["error"]
    code = str(content.get("code") or "") if isinstance(content, dict) else ""
    return code, message_of(content).rstrip(".") or response.reason_phrase or "no message"
