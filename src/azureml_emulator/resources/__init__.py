"""The subscription and its content: workspaces, datastores, computes, versioned assets, and registries."""
