"""``mlops azure``: what is about Azure as such."""
