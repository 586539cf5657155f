"""Answers as its input says: each `case_…` is one way for `execute` to return."""

import numpy as np
import triton_python_backend_utils as pb_utils

TWO = np.float32([[1, 2]])


def out(array=TWO, name="OUT"):
    return pb_utils.Tensor(name, array)


def answer(*tensors, **more):
    return pb_utils.InferenceResponse(list(tensors), **more)


def failure(name, text="boom"):
    return [answer(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, name)))]


class Unspeakable(Exception):
    pass


class TritonPythonModel:
    def execute(self, requests):
        case = pb_utils.get_input_tensor_by_name(requests[0], "CASE").as_numpy().item()
        return getattr(self, "case_" + case.decode())(requests[0])

    def case_good(self, r):
        text = np.array([[b"said"]], np.object_)
        return [answer(out(), out(text, "TEXT"))]

    def case_tuple(self, r):
        return (answer(out()),)

    def case_no_responses(self, r):
        return []

    def case_too_many_responses(self, r):
        return [answer(out()), answer(out())]

    def case_a_number(self, r):
        return 7

    def case_a_text(self, r):
        return "x"

    def case_a_dictionary(self, r):
        return {}

    def case_a_response_without_a_list(self, r):
        return answer(out())

    def case_list_of_text(self, r):
        return ["x"]

    def case_list_of_tensors(self, r):
        return [out()]

    def case_a_generator(self, r):
        yield answer(out())

    def case_no_outputs(self, r):
        return [answer()]

    def case_unknown_output(self, r):
        return [answer(out(name="OTHER"))]

    def case_unknown_output_beside_a_good_one(self, r):
        return [answer(out(), out(name="OTHER"))]

    def case_the_same_output_twice(self, r):
        return [answer(out(), out(TWO * 2))]

    def case_wrong_dtype(self, r):
        return [answer(out(np.int32([[1, 2]])))]

    def case_wrong_dtype_of_another_size(self, r):
        return [answer(out(np.float64([[1, 2]])))]

    def case_numbers_where_text_should_be(self, r):
        return [answer(out(TWO, "TEXT"))]

    def case_text_where_numbers_should_be(self, r):
        return [answer(out(np.array([[b"a", b"bc"]], np.object_)))]

    def case_wrong_shape(self, r):
        return [answer(out(np.float32([[1, 2, 3]])))]

    def case_wrong_rank(self, r):
        return [answer(out(np.float32([1, 2])))]

    def case_a_scalar(self, r):
        return [answer(out(np.array(7, np.float32)))]

    def case_an_empty_output(self, r):
        return [answer(out(np.zeros((1, 0), np.float32)))]

    def case_a_batch_of_two(self, r):
        return [answer(out(np.float32([[1, 2], [3, 4]])))]

    def case_a_column(self, r):
        return [answer(out(np.float32([[1, 9], [2, 9]]).T[:1]))]

    def case_every_second(self, r):
        return [answer(out(np.float32([[1, 9, 2, 9]])[:, ::2]))]

    def case_backwards(self, r):
        return [answer(out(TWO[:, ::-1]))]

    def case_broadcast(self, r):
        return [answer(out(np.broadcast_to(np.float32(5), (1, 2))))]

    def case_big_endian(self, r):
        return [answer(out(np.array([[1, 2]], ">f4")))]

    def case_read_only(self, r):
        array = TWO.copy()
        array.flags.writeable = False
        return [answer(out(array))]

    def case_changed_behind_the_tensor(self, r):
        array = TWO.copy()
        tensor = out(array)
        array[:] = 9
        return [answer(tensor)]

    def case_changed_behind_the_response(self, r):
        array = TWO.copy()
        response = answer(out(array))
        array[:] = 9
        return [response]

    def case_text_changed_behind_the_response(self, r):
        array = np.array([[b"said"]], np.object_)
        response = answer(out(array, "TEXT"))
        array[:] = b"other"
        return [response]

    def case_strings_of_str(self, r):
        return [answer(out(np.array([["gr\u00fcn"]], np.object_), "TEXT"))]

    def case_strings_of_numpy_bytes(self, r):
        return [answer(out(np.array([[b"abc"]]), "TEXT"))]

    def case_strings_of_numpy_unicode(self, r):
        return [answer(out(np.array([["abc"]]), "TEXT"))]

    def case_strings_of_none(self, r):
        return [answer(out(np.array([[None]], np.object_), "TEXT"))]

    def case_strings_of_numbers(self, r):
        return [answer(out(np.array([[7]], np.object_), "TEXT"))]

    def case_an_empty_string(self, r):
        return [answer(out(np.array([[b""]], np.object_), "TEXT"))]

    def case_a_string_with_zeros(self, r):
        return [answer(out(np.array([[b"a\0b\0"]], np.object_), "TEXT"))]

    def case_complex_numbers(self, r):
        return [answer(out(np.complex64([[1, 2]])))]

    def case_a_list_for_a_tensor(self, r):
        return [answer(out([[1.0, 2.0]]))]

    def case_a_text_among_outputs(self, r):
        return [answer("x")]

    def case_none_among_outputs(self, r):
        return [answer(None)]

    def case_error_unknown(self, r):
        return failure("UNKNOWN")

    def case_error_internal(self, r):
        return failure("INTERNAL")

    def case_error_not_found(self, r):
        return failure("NOT_FOUND")

    def case_error_invalid_arg(self, r):
        return failure("INVALID_ARG")

    def case_error_unavailable(self, r):
        return failure("UNAVAILABLE")

    def case_error_unsupported(self, r):
        return failure("UNSUPPORTED")

    def case_error_already_exists(self, r):
        return failure("ALREADY_EXISTS")

    def case_error_cancelled(self, r):
        return failure("CANCELLED")

    def case_error_without_text(self, r):
        return failure("INTERNAL", "")

    def case_error_with_odd_text(self, r):
        return failure("INTERNAL", "gr\u00fcn \"quoted\"\n\ttab")

    def case_error_beside_outputs(self, r):
        return [answer(out(), error=pb_utils.TritonError("boom"))]

    def case_error_of_text(self, r):
        return [answer(error="boom")]

    def case_error_of_an_unknown_code(self, r):
        return [answer(error=pb_utils.TritonError("boom", 99))]

    def case_raises(self, r):
        raise ValueError("the sky is falling")

    def case_raises_without_text(self, r):
        raise Unspeakable

    def case_raises_with_odd_text(self, r):
        raise ValueError("gr\u00fcn\nsecond line")

    def case_raises_a_model_exception(self, r):
        raise pb_utils.TritonModelException("not today")

    def case_raises_from_another(self, r):
        try:
            {}["key"]
        except KeyError as error:
            raise RuntimeError("no key") from error

    def case_raises_from_below(self, r):
        np.zeros(2).reshape(3)

    def case_fails_an_assertion(self, r):
        assert TWO.shape == (2, 1)

    def case_misses_a_module(self, r):
        import no_such_package  # noqa: F401
