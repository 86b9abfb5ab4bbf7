"""Places where registered models are served, each behind the same contract."""
