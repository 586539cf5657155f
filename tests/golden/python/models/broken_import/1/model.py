import no_such_package


class TritonPythonModel:
    def execute(self, requests):
        return no_such_package
