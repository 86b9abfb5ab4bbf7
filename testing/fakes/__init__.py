"""A control plane of Azure Machine Learning on loopback, for the real SDK to talk to.

It answers the calls that ``azure-ai-ml`` makes, keeps what it is given, and refuses what the service refuses. What it is
given to run it runs, on this machine. It proves that our code and the SDK fit together, not what the service does.

- :mod:`~testing.fakes.cloud` is what tests hold in their hands; :mod:`~testing.fakes.faults` breaks things on demand.
- :mod:`~testing.fakes.azurite` and :mod:`~testing.fakes.blobs` are the storage, :mod:`~testing.fakes.server` the way in.
- One file for each kind of resource: ``workspaces``, ``assets``, ``registries``, ``jobs``, ``schedules``, ``online``,
  ``batch``; ``history`` and ``tracking`` answer what is asked about running jobs, ``identity`` signs in.
- :mod:`~testing.fakes.translate` turns a submitted job back into YAML, :mod:`~testing.fakes.executor` runs it, and
  :mod:`~testing.fakes.rehearsal` only pretends to.

- :mod:`~testing.fakes.groups` are container instances, :mod:`~testing.fakes.container` runs what is in them, and
  :mod:`~testing.fakes.vault` is a key vault.

Start it with :func:`testing.fakes.client.start_cloud`, talk to it with :func:`testing.fakes.client.loopback_client`.
"""
