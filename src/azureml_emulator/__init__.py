"""Azure Machine Learning and related services on loopback, for the real SDK to talk to; see README.md.

It responds to the calls that ``azure-ai-ml`` makes, keeps what it is given, and refuses what the service refuses. What it
is asked to run, it runs on this machine. It proves that a program and the SDK fit together, not what the service does.

- :mod:`~azureml_emulator.loopback` starts it and makes clients for it; :mod:`~azureml_emulator.emulated_cloud` puts the
  services together; :mod:`~azureml_emulator.https_server` is the entrance.
- :mod:`~azureml_emulator.process_commands` defines the two commands that it starts.
- The folders, from the ground up: ``rest``, ``storage``, ``identity``, ``resources``, ``jobs``, ``endpoints`` and
  ``container_groups``. The responses of a service are in a module whose name ends in ``_routes``, or in the class that also
  keeps what runs: :mod:`~azureml_emulator.jobs.emulated_jobs` and :mod:`~azureml_emulator.identity.key_vault`.
"""
