"""The network and the model bundle, the one folder that everything after training reads."""
