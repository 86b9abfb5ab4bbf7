"""Azure DevOps and GitHub: what starts their pipelines, and what pipelines are told."""
