class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        config = auto_complete_model_config
        config.set_max_batch_size(8)
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_input({"name": "B", "data_type": "TYPE_INT32", "dims": [-1], "optional": True})
        config.add_output({"name": "OUT", "data_type": "TYPE_STRING", "dims": [2, 2]})
        config.set_dynamic_batching()
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def execute(self, requests):
        pass
