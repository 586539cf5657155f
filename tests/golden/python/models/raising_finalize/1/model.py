class TritonPythonModel:
    def finalize(self):
        raise RuntimeError("no good-bye")

    def execute(self, requests):
        pass
