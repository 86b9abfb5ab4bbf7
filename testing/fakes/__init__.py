"""A control plane of Azure Machine Learning on loopback, for the real SDK to talk to.

It answers the calls that ``azure-ai-ml`` makes, keeps what it is given, and refuses what the service refuses. What it is
given to run it runs: on this machine. It proves that our code and the SDK fit together, not what the service does.

    azurite -> blobs -> cloud <- server
                          ^
    workspaces, assets, registries, jobs, history, schedules, online, batch: one file a kind of resource

Start it with :func:`testing.fakes.client.start_cloud`, talk to it with :func:`testing.fakes.client.loopback_client`.
"""
