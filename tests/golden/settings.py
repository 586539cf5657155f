"""Trace and log settings over gRPC: read, set, cleared, and given what they do not take.

Each change is taken back, so that the answers do not depend on what was asked before.
"""

from tritonclient.grpc import service_pb2 as messages


def settings():
    """Name, method and message of every call."""
    yield from _trace()
    yield from _log()


def _trace():
    changes = (
        {}, {"trace_rate": ["7"]}, {"trace_rate": ["abc"]}, {"trace_rate": ["-1"]},
        {"trace_rate": ["1", "2"]}, {"trace_rate": [""]}, {"trace_rate": ["4294967296"]},
        {"trace_count": ["3"]}, {"trace_count": ["-1"]}, {"trace_count": ["-2"]},
        {"trace_count": ["x"]}, {"trace_count": ["1", "2"]}, {"trace_level": ["TIMESTAMPS"]},
        {"trace_level": ["TIMESTAMPS", "TENSORS"]}, {"trace_level": ["OFF"]},
        {"trace_level": ["OFF", "TIMESTAMPS"]}, {"trace_level": ["nonsense"]},
        {"trace_level": ["MIN"]}, {"trace_level": []}, {"log_frequency": ["9"]},
        {"log_frequency": ["x"]}, {"log_frequency": ["1", "2"]}, {"trace_file": ["/tmp/x"]},
        {"trace_mode": ["opentelemetry"]}, {"nonsense": ["1"]},
        {"trace_rate": ["0"]}, {"trace_level": ["TIMESTAMPS"], "trace_rate": ["0"]},
        {"trace_rate": ["5"], "trace_count": ["4"], "log_frequency": ["3"]},
    )
    back = {"trace_level": [], "trace_rate": [], "trace_count": [], "log_frequency": []}
    for model in ("", "m"):
        for change in changes:
            name = "TraceSetting %s: %s" % (model, change)
            yield name, "TraceSetting", _trace_request(model, change)
            yield name + ", taken back", "TraceSetting", _trace_request(model, back)
    yield "TraceSetting: set for all", "TraceSetting", _trace_request("", {"trace_rate": ["8"]})
    yield "TraceSetting: a model follows", "TraceSetting", _trace_request("m", {})
    yield "TraceSetting: one of its own", "TraceSetting", _trace_request("m", {"trace_rate": ["9"]})
    yield "TraceSetting: cleared", "TraceSetting", _trace_request("m", {"trace_rate": []})
    yield "TraceSetting: cleared for all", "TraceSetting", _trace_request("", back)
    for change in ({}, {"trace_rate": ["7"]}):
        yield "TraceSetting x: %s" % change, "TraceSetting", _trace_request("x", change)


def _trace_request(model, change):
    request = messages.TraceSettingRequest(model_name=model)
    for key, values in change.items():
        request.settings[key].value.extend(values)
    return request


def _log():
    changes = (
        {}, {"log_info": False}, {"log_info": 1}, {"log_info": "false"}, {"log_warning": False},
        {"log_error": False}, {"log_error": "x"}, {"log_verbose_level": 1},
        {"log_verbose_level": "1"}, {"log_verbose_level": True}, {"log_format": "ISO8601"},
        {"log_format": "default"}, {"log_format": "x"}, {"log_format": 1},
        {"log_file": "/tmp/x"}, {"log_file": 1}, {"nonsense": 1}, {"log_info": None},
    )
    back = {
        "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0,
        "log_format": "default",
    }
    for change in changes:
        name = "LogSettings: %s" % change
        yield name, "LogSettings", _log_request(change)
        yield name + ", taken back", "LogSettings", _log_request(back)


def _log_request(change):
    request = messages.LogSettingsRequest()
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    for key, value in change.items():
        setting = request.settings[key]
        # Without a value: a setting of no type.
        if value is not None:
            setattr(setting, kinds[type(value)], value)
    return request
