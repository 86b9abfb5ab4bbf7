"""Jobs: taken in, written as YAML, run by a command, watched, and asked about; and the schedules that start them."""
