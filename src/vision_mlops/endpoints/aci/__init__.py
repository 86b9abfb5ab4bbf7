"""Azure Container Instances: a container group is an endpoint with one deployment.

- :mod:`.target` is what the commands use; :mod:`.container_groups` calls the service.
- :mod:`.group_definition` builds the definition of a group, and reads back what a group was made of.
- :mod:`.group_state` reads the state of a group from the service's response; `serving.server_health` asks the server itself.
- :mod:`.group_changes` creates and changes groups, waits, and undoes changes that fail.
"""
