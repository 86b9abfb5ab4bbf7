"""Workload configuration: strict models and the loader of workload files."""

from vision_mlops.config.workload import Workload
from vision_mlops.config.workload_files import list_workloads, load_workload

__all__ = ["Workload", "list_workloads", "load_workload"]
