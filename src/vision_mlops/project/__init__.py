"""What `mlops init` makes: a project of one's own from the template, and what it takes from the package afterwards."""
