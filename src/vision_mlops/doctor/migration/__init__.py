"""What of the first version of Azure ML's SDK, and of what was retired since, a repository uses."""
