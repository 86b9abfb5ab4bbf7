"""What a region and a subscription do not give: sizes of machines, quota, names of endpoints, images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.vm_sizes import VM_SIZES
from azureml_emulator.rest.rest_calls import ServiceRefusalError

_GUIDE = "See the troubleshooting guide"


@dataclass
class RegionLimits:
    """Limits that tests may tighten.

    Attributes:
        cores: Of managed endpoints.
        family_cores: Of compute instances and clusters, for each family of machines.
        taken: Names that others in the region have: of endpoints, compute instances, storage
            accounts, vaults and container registries.
        images: Those that can be pulled; all where it is None.
        unregistered: Resource providers, in lower case, that the subscription has not registered.
        subscription_state: Of the subscription; others than Enabled make nothing.
    """

    cores: int = 100
    family_cores: int = 24
    taken: set[str] = field(default_factory=set)
    images: set[str] | None = None
    unregistered: set[str] = field(default_factory=set)
    subscription_state: str = "Enabled"

    def check_name(self, endpoint: str) -> None:
        """Refuse the name of an endpoint that another workspace of the region has. Raises ServiceRefusalError."""
        if endpoint in self.taken:
            message = (
                f"The endpoint name {endpoint!r} is already taken in region westeurope; names are unique in a region"
            )
            raise ServiceRefusalError(400, "BadArgument", message)

    def check_machines(self, wanted: RestResource, others: Iterable[RestResource]) -> None:
        """Refuse an unknown size, and more cores than there is quota for. Raises ServiceRefusalError."""
        size = str(wanted.properties.get("instanceType"))
        if size.lower() not in VM_SIZES:
            raise ServiceRefusalError(
                400, "BadArgument", f"The instance type {size} is not supported for online endpoints"
            )
        used, needed = sum(map(_cores, others)), _cores(wanted)
        if used + needed > self.cores:
            message = f"Not enough quota available for {size}. Current usage/limit: {used}/{self.cores}."
            raise ServiceRefusalError(400, "OutOfQuota", f"{message} Additional needed: {needed}. {_GUIDE}")

    def check_image(self, image: str) -> None:
        """Refuse an image that cannot be pulled. Raises ServiceRefusalError."""
        if self.images is not None and image not in self.images:
            reasons = "it does not exist, or the identity of the endpoint may not pull it"
            message = f"Unable to download the user container image {image!r}. Possible reasons: {reasons}. {_GUIDE}"
            raise ServiceRefusalError(400, "BadArgument", message)


def _cores(deployment: RestResource) -> int:
    """Cores that count: the service keeps a fifth more instances for upgrades."""
    instances = int((deployment.body.get("sku") or {}).get("capacity") or 1)
    return VM_SIZES[str(deployment.properties.get("instanceType")).lower()].cores * math.ceil(1.2 * instances)
