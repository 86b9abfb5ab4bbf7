"""The entrance for clients that use Azure's host names: an HTTPS proxy that responds for these names."""
