"""Answers recorded from a real Triton server, and the requests that they answer."""
