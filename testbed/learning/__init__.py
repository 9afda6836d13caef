"""Federated learning that really runs: data, models, local training, aggregation."""
