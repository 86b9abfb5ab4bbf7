"""The subscription and what it holds: workspaces, datastores, computes, versioned assets, and registries."""
