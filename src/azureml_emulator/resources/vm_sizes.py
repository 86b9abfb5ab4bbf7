"""The sizes of machines that the region has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VmSize:
    """A size of machines. ``family`` is the unit of quota, as named in a list of quota."""

    name: str
    family: str
    cores: int
    memory_gb: float
    gpus: int = 0

    @property
    def family_id(self) -> str:
        """Return the family as named in a list of sizes."""
        return f"standard{self.family.replace('_', '')}Family"


VM_SIZES = {
    size.name.lower(): size
    for size in (
        VmSize("Standard_DS1_v2", "DSv2", 1, 3.5),
        VmSize("Standard_DS2_v2", "DSv2", 2, 7),
        VmSize("Standard_DS3_v2", "DSv2", 4, 14),
        VmSize("Standard_DS4_v2", "DSv2", 8, 28),
        VmSize("Standard_F2s_v2", "FSv2", 2, 4),
        VmSize("Standard_F4s_v2", "FSv2", 4, 8),
        VmSize("Standard_NC4as_T4_v3", "NCASv3_T4", 4, 28, 1),
        VmSize("Standard_NC24ads_A100_v4", "NCADSA100v4", 24, 220, 1),
    )
}
"""Return it by name in lower case, as the service compares names."""
