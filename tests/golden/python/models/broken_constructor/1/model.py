class TritonPythonModel:
    def __init__(self):
        raise RuntimeError("no model")

    def execute(self, requests):
        pass
