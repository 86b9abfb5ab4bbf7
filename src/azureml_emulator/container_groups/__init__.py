"""Azure Container Instances: container groups, and the processes behind them."""
