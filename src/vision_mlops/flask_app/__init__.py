"""The web frontend: a Flask application in front of any scoring endpoint."""
