"""Python models, what is asked of them, and what a real Triton server answered."""
