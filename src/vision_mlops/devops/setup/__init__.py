"""What ``mlops devops init`` creates: a part for each thing, their plan, and the run that creates what is missing."""
