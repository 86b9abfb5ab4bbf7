"""Workload configuration: strict models and the loader of workload files."""

from vision_mlops.config.loader import list_workloads, load_workload
from vision_mlops.config.models import Workload

__all__ = ["Workload", "list_workloads", "load_workload"]
