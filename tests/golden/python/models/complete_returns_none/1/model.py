class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        pass

    def execute(self, requests):
        pass
