"""The request flow, one path for five callers: HTTP, batch, evaluation, the simulator, shadow traffic."""
