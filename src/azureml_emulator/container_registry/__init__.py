"""The sign-in of a Container Registry."""
