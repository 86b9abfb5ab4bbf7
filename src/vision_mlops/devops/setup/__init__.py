"""What ``mlops devops init`` makes: a part for each thing, the plan of them, and the run that makes what is missing."""
