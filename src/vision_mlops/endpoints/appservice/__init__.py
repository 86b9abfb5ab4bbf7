"""The web frontend on Azure App Service: a plan, a web app, and a slot in which a release is tried before it is swapped in.

- :mod:`.app_package` builds the zip, :mod:`.site_definition` the definitions of plan, web app and slot.
- :mod:`.web_apps` calls the service, :mod:`.zip_publishing` the publishing site, :mod:`.site_health` the app itself.
- :mod:`.app_deployment` deploys a release and rolls it back, :mod:`.deployment_steps` describes beforehand what it would do.
- :mod:`.role_commands` lists the roles that its identities need.
"""
