"""Defaults of App Service for what nobody has set on a web app."""

from __future__ import annotations

import copy

from azureml_emulator.rest.rest_calls import Json

_OFF = (
    "acrUseManagedIdentityCreds", "autoHealEnabled", "detailedErrorLoggingEnabled", "functionsRuntimeScaleMonitoringEnabled",
    "http20Enabled", "httpLoggingEnabled", "remoteDebuggingEnabled", "requestTracingEnabled", "use32BitWorkerProcess",
    "vnetRouteAllEnabled", "webSocketsEnabled",
)  # fmt: skip
_EMPTY = (
    "appCommandLine", "linuxFxVersion", "nodeVersion", "phpVersion", "powerShellVersion", "pythonVersion", "vnetName",
)  # fmt: skip
_NONE = ("functionAppScaleLimit", "minimumElasticInstanceCount", "vnetPrivatePortsCount")
_CONFIG: Json = {
    **dict.fromkeys(_OFF, False),
    **dict.fromkeys(_EMPTY, ""),
    **dict.fromkeys(_NONE, 0),
    "azureStorageAccounts": {},
    "defaultDocuments": ["index.html", "hostingstart.html"],
    "loadBalancing": "LeastRequests",
    "logsDirectorySizeLimit": 35,
    "managedPipelineMode": "Integrated",
    "netFrameworkVersion": "v4.0",
    "numberOfWorkers": 1,
    "scmMinTlsVersion": "1.2",
    "virtualApplications": [{"virtualPath": "/", "physicalPath": "site\\wwwroot", "preloadEnabled": False}],
}
_SITE_OFF = (
    "clientCertEnabled", "hostNamesDisabled", "httpsOnly", "hyperV", "isXenon", "scmSiteAlsoStopped",
    "storageAccountRequired", "vnetContentShareEnabled", "vnetImagePullEnabled", "vnetRouteAllEnabled",
)  # fmt: skip
_SITE: Json = {
    **dict.fromkeys(_SITE_OFF, False),
    "clientAffinityEnabled": True,
    "clientCertMode": "Required",
    "containerSize": 0,
    "customDomainVerificationId": "0" * 64,
    "dailyMemoryTimeQuota": 0,
    "enabled": True,
    "keyVaultReferenceIdentity": "SystemAssigned",
    "outboundIpAddresses": "127.0.0.1",
    "possibleOutboundIpAddresses": "127.0.0.1",
    "redundancyMode": "None",
    "reserved": True,
    "usageState": "Normal",
}
_PLAN: Json = {
    "isSpot": False,
    "maximumNumberOfWorkers": 10,
    "numberOfWorkers": 1,
    "reserved": True,
    "targetWorkerCount": 0,
    "targetWorkerSizeId": 0,
}


def with_config_defaults(config: Json) -> Json:
    """Return the configuration of a slot, including all defaults."""
    return {**copy.deepcopy(_CONFIG), **config}


def with_site_defaults(properties: Json) -> Json:
    """Return the description of a web app or slot, including all defaults."""
    return {**_SITE, **properties}


def with_plan_defaults(body: Json) -> Json:
    """Return a plan, including all defaults."""
    properties = {**_PLAN, "geoRegion": body.get("location"), **(body.get("properties") or {})}
    size = str((body.get("sku") or {}).get("name") or "")
    return {"kind": "linux", **body, "properties": properties, "sku": {"size": size, "family": size[:1], **body["sku"]}}
