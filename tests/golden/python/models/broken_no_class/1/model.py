class Model:
    def execute(self, requests):
        pass
