"""The API versions of Azure Resource Manager: each call names one, and a provider accepts those that it has published."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from azureml_emulator.rest.rest_calls import ServiceRefusalError

_RESOURCES = "microsoft.resources"
_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-[a-z]+)?", re.IGNORECASE)
# From the specification; versions that may have been published later are accepted as well.
_PUBLISHED = {
    "microsoft.containerregistry": """
        2016-06-27-preview 2017-03-01 2017-06-01-preview 2017-10-01 2018-02-01-preview 2018-09-01 2019-04-01
        2019-05-01 2019-05-01-preview 2019-06-01-preview 2019-12-01-preview 2020-11-01-preview 2021-06-01-preview
        2021-08-01-preview 2021-09-01 2021-12-01-preview 2022-02-01-preview 2022-12-01 2023-01-01-preview
        2023-06-01-preview 2023-07-01 2023-08-01-preview 2023-11-01-preview 2024-11-01-preview 2025-04-01
        2025-11-01
    """,
    "microsoft.managedidentity": """
        2015-08-31-preview 2018-11-30 2021-09-30-preview 2022-01-31-preview 2023-01-31 2023-07-31-preview
        2024-11-30 2025-01-31-preview
    """,
    "microsoft.keyvault": """
        2015-06-01 2016-10-01 2018-02-14 2018-02-14-preview 2019-09-01 2020-04-01-preview 2021-04-01-preview
        2021-06-01-preview 2021-10-01 2021-11-01-preview 2022-02-01-preview 2022-07-01 2022-11-01 2023-02-01
        2023-07-01 2024-04-01-preview 2024-11-01 2025-05-01
    """,
    "microsoft.machinelearningservices": """
        2018-03-01-preview 2018-11-19 2019-05-01 2019-06-01 2019-11-01 2020-01-01 2020-02-18-preview 2020-03-01
        2020-04-01 2020-04-01-preview 2020-05-01-preview 2020-05-15-preview 2020-06-01 2020-08-01
        2020-09-01-dataplanepreview 2020-09-01-preview 2021-01-01 2021-03-01-preview 2021-04-01 2021-07-01
        2021-10-01-dataplanepreview 2022-01-01-preview 2022-02-01-preview 2022-05-01 2022-06-01-preview 2022-10-01
        2022-10-01-preview 2022-12-01-preview 2023-02-01-preview 2023-04-01 2023-04-01-preview 2023-06-01-preview
        2023-08-01-preview 2023-10-01 2024-01-01-preview 2024-04-01 2024-04-01-preview 2024-07-01-preview
        2024-10-01 2024-10-01-preview 2025-01-01-preview 2025-04-01 2025-04-01-preview 2025-06-01
        2025-07-01-preview 2025-09-01 2025-10-01-preview 2025-12-01
    """,
    "microsoft.web": """
        2015-08-01 2015-08-01-preview 2016-03-01 2016-06-01 2016-08-01 2016-09-01 2018-02-01 2018-11-01 2019-08-01
        2020-06-01 2020-09-01 2020-10-01 2020-12-01 2021-01-01 2021-01-15 2021-02-01 2021-03-01 2022-03-01
        2022-09-01 2023-01-01 2023-12-01 2024-04-01 2024-11-01 2025-03-01 2025-05-01
    """,
    "microsoft.containerinstance": """
        2017-08-01-preview 2017-10-01-preview 2017-12-01-preview 2018-02-01-preview 2018-04-01 2018-06-01
        2018-09-01 2018-10-01 2019-12-01 2020-11-01 2021-03-01 2021-07-01 2021-09-01 2021-10-01 2022-09-01
        2022-10-01-preview 2023-02-01-preview 2023-05-01 2024-05-01-preview 2024-09-01-preview 2024-10-01-preview
        2024-11-01-preview 2025-09-01
    """,
    "microsoft.cognitiveservices": """
        2016-02-01-preview 2017-04-18 2021-04-30 2021-10-01 2022-03-01 2022-10-01 2022-12-01 2023-05-01
        2023-10-01-preview 2024-04-01-preview 2024-06-01-preview 2024-10-01 2025-04-01-preview 2025-06-01
    """,
    "microsoft.storage": """
        2015-05-01-preview 2015-06-15 2016-01-01 2016-05-01 2016-12-01 2017-06-01 2017-10-01 2018-02-01
        2018-03-01-preview 2018-07-01 2018-11-01 2019-04-01 2019-06-01 2020-08-01-preview 2021-01-01 2021-02-01
        2021-04-01 2021-06-01 2021-08-01 2021-09-01 2022-05-01 2022-09-01 2023-01-01 2023-04-01 2023-05-01
        2024-01-01 2025-01-01 2025-06-01
    """,
    "microsoft.authorization": """
        2014-07-01-preview 2014-10-01-preview 2015-06-01 2015-07-01 2016-07-01 2017-10-01-preview
        2018-01-01-preview 2018-05-01-preview 2018-07-01-preview 2018-09-01-preview 2019-08-01-preview
        2020-03-01-preview 2020-04-01-preview 2020-08-01-preview 2020-10-01 2020-10-01-preview 2021-01-01-preview
        2021-01-03 2021-03-01-preview 2021-07-01-preview 2021-11-16-preview 2021-12-01-preview 2022-04-01
        2022-04-01-preview 2022-05-01-preview 2022-08-01-preview
    """,
    "microsoft.insights": """
        2014-04-01 2015-04-01 2015-07-01 2016-03-01 2016-06-01 2016-09-01 2017-03-01-preview 2017-04-01
        2017-05-01-preview 2017-09-01-preview 2017-11-01-preview 2017-12-01-preview 2018-01-01 2018-03-01
        2018-04-16 2018-06-01-preview 2018-09-01 2018-11-27-preview 2019-03-01 2019-06-01 2019-07-01
        2019-10-17-preview 2019-11-01-preview 2020-01-01-preview 2020-05-01-preview 2020-10-01 2021-02-01-preview
        2021-04-01 2021-05-01 2021-05-01-preview 2021-07-01-preview 2021-08-01 2021-09-01 2021-09-01-preview
        2021-10-01 2022-04-01 2022-06-01 2022-06-15 2022-08-01-preview 2022-10-01 2023-01-01 2023-01-01-preview
        2023-03-01-preview 2023-03-11 2023-03-15-preview 2023-05-01-preview 2023-09-01-preview 2023-10-01
        2023-12-01 2024-02-01
    """,
    _RESOURCES: """
        2014-04-01 2014-04-01-preview 2015-01-01 2015-11-01 2016-02-01 2016-06-01 2016-07-01 2016-09-01 2017-05-10
        2018-01-01 2018-02-01 2018-05-01 2018-06-01 2019-03-01 2019-05-01 2019-05-10 2019-06-01 2019-06-01-preview
        2019-07-01 2019-08-01 2019-09-01 2019-10-01 2019-10-01-preview 2019-11-01 2020-01-01 2020-06-01 2020-08-01
        2020-10-01 2021-01-01 2021-03-01-preview 2021-04-01 2021-05-01 2022-02-01 2022-03-01-preview 2022-05-01
        2022-08-01-preview 2022-09-01 2022-11-01-preview 2022-12-01 2023-03-01-preview 2023-07-01
        2023-07-01-preview 2023-08-01 2023-11-01 2024-03-01 2024-06-01-preview 2024-07-01 2024-11-01 2025-03-01
        2025-04-01
    """,
}


def is_managed(path: str) -> bool:
    """Return whether a path belongs to the resource manager itself."""
    return path.lower().startswith(("/subscriptions", "/tenants", "/providers"))


def check_version(path: str, version: str | None) -> None:
    """Refuse a call to the resource manager that names no version, or one that was never published.

    Args:
        path: Path of the call; those of other services are ignored.
        version: Version that the call names.

    Raises:
        ServiceRefusalError: 400.
    """
    if not is_managed(path):
        return
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ServiceRefusalError(400, "MissingApiVersionParameter", message)
    _, found, last = path.rpartition("/providers/")
    provider, *below = last.strip("/").split("/") if found else [_RESOURCES]
    if below in ([], ["register"], ["unregister"]):  # about the provider itself
        provider = _RESOURCES
    provider = provider.lower()
    published = _PUBLISHED.get(provider, "").split()
    if not published or _is_published(version.lower(), published):
        return
    shown = ", ".join(sorted(published))
    if provider == _RESOURCES:
        message = f"The api-version {version!r} is invalid. The supported versions are {shown!r}."
        raise ServiceRefusalError(400, "InvalidApiVersionParameter", message)
    message = (
        f"No registered resource provider found for API version {version!r} for type {'/'.join(below[::2])!r}. The supported"
        f" api-versions are {shown!r}."
    )
    raise ServiceRefusalError(400, "NoRegisteredProviderFound", message)


def _is_published(version: str, published: list[str]) -> bool:
    found = _VERSION.fullmatch(version)
    if found is None:
        return False
    try:
        day = date.fromisoformat(found[1])
    except ValueError:
        return False
    newest = date.fromisoformat(max(published)[:10])
    return version in published or newest < day <= datetime.now(UTC).date()
