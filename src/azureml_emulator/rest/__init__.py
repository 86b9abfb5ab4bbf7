"""One request to the control plane and its response: calls, refusals, long-running operations, and planned faults."""
