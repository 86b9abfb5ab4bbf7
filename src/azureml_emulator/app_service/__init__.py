"""Azure App Service: plans, web apps with slots, their publishing site, and the processes behind them."""
