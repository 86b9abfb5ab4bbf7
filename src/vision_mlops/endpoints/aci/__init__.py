"""Azure Container Instances: a container group is an endpoint with one deployment.

- :mod:`.target` is what the commands use; :mod:`.container_groups` calls the service.
- :mod:`.group_definition` says what a group is made of, and reads back what one was made of.
- :mod:`.group_state` reads from the service's answer how a group is, `serving.server_health` asks the server itself.
- :mod:`.group_changes` makes and changes groups, waits, and undoes what did not work.
"""
