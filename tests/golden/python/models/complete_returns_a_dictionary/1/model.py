class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        return auto_complete_model_config.as_dict()

    def execute(self, requests):
        pass
