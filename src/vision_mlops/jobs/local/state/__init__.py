"""What is known of a job that runs, and what a person sees of it."""
