class TritonPythonModel:
    def initialize(self, args):
        self.weights()

    def weights(self):
        raise RuntimeError("no weights")

    def execute(self, requests):
        pass
