"""Sends responses as its input says: each `case_…` is one way to do so."""

import threading

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def response(*values):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.int32(values))])


def failure(text):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))


class TritonPythonModel:
    def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        sender = requests[0].get_response_sender()
        return getattr(self, "case_" + case.decode())(sender)

    def case_two_and_the_end(self, sender):
        sender.send(response(1))
        sender.send(response(2))
        sender.send(flags=FINAL)

    def case_the_end_with_the_last(self, sender):
        sender.send(response(1))
        sender.send(response(2), FINAL)

    def case_only_the_end(self, sender):
        sender.send(flags=FINAL)

    def case_from_a_thread(self, sender):
        def later():
            sender.send(response(1))
            sender.send(flags=FINAL)

        threading.Thread(target=later).start()

    def case_an_error_between(self, sender):
        sender.send(response(1))
        sender.send(failure("boom"))
        sender.send(response(2), FINAL)

    def case_an_error_at_the_end(self, sender):
        sender.send(response(1))
        sender.send(failure("boom"), flags=FINAL)

    def case_an_unknown_output(self, sender):
        tensor = pb_utils.Tensor("OTHER", np.int32([1]))
        sender.send(pb_utils.InferenceResponse([tensor]), FINAL)

    def case_no_outputs(self, sender):
        sender.send(pb_utils.InferenceResponse([]))
        sender.send(flags=FINAL)

    def case_raises_before_the_first(self, sender):
        raise ValueError("the sky is falling")

    def case_raises_behind_the_first(self, sender):
        sender.send(response(1))
        raise ValueError("the sky is falling")

    def case_returns_a_list(self, sender):
        sender.send(response(1), FINAL)
        return [response(2)]

    def tries(self, sender, *sends):
        """What became of several sends, as one response where that can still be sent."""
        said = []
        for arguments in sends:
            try:
                sender.send(*arguments)
                said.append("sent")
            except Exception as error:
                said.append("%s: %s" % (type(error).__name__, error))
        return said

    def case_nothing_to_send(self, sender):
        (said,) = self.tries(sender, ())
        sender.send(failure(said), FINAL)

    def case_an_unknown_flag(self, sender):
        (said,) = self.tries(sender, (response(1), 7))
        sender.send(failure(said), FINAL)

    def case_something_else(self, sender):
        (said,) = self.tries(sender, ("x",))
        sender.send(failure(said.split(":")[0]), FINAL)
