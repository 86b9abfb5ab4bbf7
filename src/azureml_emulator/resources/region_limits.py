"""The limits of a region and a subscription: sizes of machines, quota, names of endpoints, images."""

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
        cores: Cores of managed endpoints.
        family_cores: Cores of compute instances and clusters, for each family of machines.
        taken: Names that others in the region use: of endpoints, compute instances, storage
            accounts, vaults and container registries.
        images: Images that can be pulled; all if it is None.
        unregistered: Resource providers, in lower case, that the subscription has not registered.
        subscription_state: State of the subscription; nothing can be created unless it is Enabled.
    """

    cores: int = 100
    family_cores: int = 24
    taken: set[str] = field(default_factory=set)
    images: set[str] | None = None
    unregistered: set[str] = field(default_factory=set)
    subscription_state: str = "Enabled"

    def check_name(self, endpoint: str) -> None:
        """Refuse the name of an endpoint if another workspace of the region has it. Raises ServiceRefusalError."""
        if endpoint in self.taken:
            message = (
                f"The endpoint name {endpoint!r} is already taken in region westeurope; names are unique in a region"
            )
            raise ServiceRefusalError(400, "BadArgument", message)

    def check_machines(self, wanted: RestResource, others: Iterable[RestResource]) -> None:
        """Refuse an unknown size, and more cores than the quota allows. Raises ServiceRefusalError."""
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
    """Return the cores that count: the service keeps a fifth more instances for upgrades."""
    instances = int((deployment.body.get("sku") or {}).get("capacity") or 1)
    return VM_SIZES[str(deployment.properties.get("instanceType")).lower()].cores * math.ceil(1.2 * instances)
