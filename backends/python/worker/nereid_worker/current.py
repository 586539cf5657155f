"""The worker of this process."""

# None where there is no server, as in the tests of a model.
worker = None
