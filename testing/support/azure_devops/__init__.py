"""Azure DevOps on this machine, as far as ``mlops devops init`` speaks with it, with its refusals; state is in memory."""
