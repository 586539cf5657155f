"""A decoupled model whose `execute` is a coroutine."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def ask(model, *values):
    tensor = pb_utils.Tensor("IN", np.float32(values))
    return pb_utils.InferenceRequest(
        model_name=model, inputs=[tensor], requested_output_names=["OUT"]
    )


def seen(response):
    if response.has_error():
        return "error %d: %s" % (response.error().code(), response.error().message())
    return repr([(t.name(), t.as_numpy().tolist()) for t in response.output_tensors()])


class TritonPythonModel:
    async def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        said = await getattr(self, "case_" + case.decode())()
        tensor = pb_utils.Tensor("OUT", np.array(said, np.object_))
        requests[0].get_response_sender().send(pb_utils.InferenceResponse([tensor]), FINAL)

    async def case_sleeps(self):
        await asyncio.sleep(0.01)
        return ["slept"]

    async def case_several_at_once(self):
        made = [ask("identity", value, 0) for value in (1, 2, 3, -1)]
        return [seen(one) for one in await asyncio.gather(*(one.async_exec() for one in made))]

    async def case_decoupled(self):
        answers = await ask("many", 2, 0).async_exec(decoupled=True)
        return [seen(answer) for answer in answers]

    async def case_unknown_model(self):
        return [seen(await ask("nobody", 1, 2).async_exec())]
