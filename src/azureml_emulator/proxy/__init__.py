"""The way in for clients that believe they talk to Azure: an HTTPS proxy that answers for Azure's host names."""
