"""What a region and a subscription do not give: sizes of machines, quota, names of endpoints, images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import ServiceRefusalError

CORES = {
    "standard_ds1_v2": 1, "standard_ds2_v2": 2, "standard_ds3_v2": 4, "standard_ds4_v2": 8, "standard_f2s_v2": 2,
    "standard_f4s_v2": 4, "standard_nc4as_t4_v3": 4, "standard_nc24ads_a100_v4": 24,
}  # fmt: skip
_GUIDE = "See the troubleshooting guide"


@dataclass
class RegionLimits:
    """Limits that tests may tighten. ``images`` are those that can be pulled, all where it is None."""

    cores: int = 100
    taken: set[str] = field(default_factory=set)
    images: set[str] | None = None

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
        if size.lower() not in CORES:
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
    return CORES[str(deployment.properties.get("instanceType")).lower()] * math.ceil(1.2 * instances)
