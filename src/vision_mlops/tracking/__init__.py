"""Where runs are tracked: MLflow."""
