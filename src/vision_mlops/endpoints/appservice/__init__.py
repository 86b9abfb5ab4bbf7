"""The web frontend on Azure App Service: a plan, a web app, and a slot in which a release is tried before it is swapped in.

- :mod:`.app_package` makes the zip, :mod:`.site_definition` says what plan, web app and slot are made of.
- :mod:`.web_apps` calls the service, :mod:`.zip_publishing` the publishing site, :mod:`.site_health` the app itself.
- :mod:`.app_deployment` puts a release in place and goes back, :mod:`.deployment_steps` says beforehand what it would do.
- :mod:`.role_commands` are the roles that its identities need.
"""
