"""One request to the control plane and its answer: calls, refusals, long-running operations, and faults on demand."""
