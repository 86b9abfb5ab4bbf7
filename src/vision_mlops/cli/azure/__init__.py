"""Commands about Azure itself, and about leaving version 1 of Azure ML."""
