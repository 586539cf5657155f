"""A model that is not decoupled and answers with response senders."""

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def response(*values):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.int32(values))])


class TritonPythonModel:
    def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        return getattr(self, "case_" + case.decode())(requests[0])

    def case_returns_nothing(self, request):
        request.get_response_sender().send(response(1), FINAL)

    def case_returns_a_list_of_none(self, request):
        request.get_response_sender().send(response(1), FINAL)
        return [None]

    def case_two_calls(self, request):
        sender = request.get_response_sender()
        sender.send(response(1))
        sender.send(flags=FINAL)

    def case_an_error(self, request):
        error = pb_utils.TritonError("boom", pb_utils.TritonError.INVALID_ARG)
        request.get_response_sender().send(pb_utils.InferenceResponse(error=error), FINAL)

    def case_the_end_first(self, request):
        sender = request.get_response_sender()
        try:
            sender.send(flags=FINAL)
        except Exception as error:
            return self.say(sender, error)

    def case_sent_and_returned(self, request):
        request.get_response_sender().send(response(1), FINAL)
        return [response(2)]

    def case_more_than_one(self, request):
        sender, self.told = request.get_response_sender(), []
        sender.send(response(1))
        for more in ([response(2)], [response(2), FINAL], [None, FINAL], [None, FINAL], [response(2)]):
            try:
                sender.send(*more)
            except Exception as error:
                self.told.append("%s: %s" % (type(error).__name__, error))

    def case_what_it_was_told(self, request):
        error = pb_utils.TritonError("; ".join(self.told))
        request.get_response_sender().send(pb_utils.InferenceResponse(error=error), FINAL)

    def say(self, sender, error):
        text = "%s: %s" % (type(error).__name__, error)
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(text)), FINAL)
