"""Checks the agent's API with stock gRPC for Python: stubs are on the path, the socket is in $PITBOSS_SOCKET."""

import json
import os
import queue
import sys
import threading

import grpc
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from pitboss.v1 import admin_pb2, admin_pb2_grpc, pool_pb2, pool_pb2_grpc

TIMEOUT = 60
channel = grpc.insecure_channel("unix:" + os.environ["PITBOSS_SOCKET"])
pool = pool_pb2_grpc.PoolStub(channel)
admin = admin_pb2_grpc.AdminStub(channel)
health = health_pb2_grpc.HealthStub(channel)


def request(tool, args, parts=()):
    return pool_pb2.CallRequest(tool=tool, json=json.dumps(args), parts=parts)


def failure(call):
    """The code of a call that must fail, and its details by the name of their type."""
    try:
        call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        found = {}
        for detail in status.details if status else []:
            message = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
            assert detail.Unpack(message)
            found[detail.TypeName().rpartition(".")[2]] = message
        return error.code(), error.details(), found
    raise AssertionError("the call did not fail")


def check_unary():
    answer = pool.Call(request("add", {"a": 2**70, "b": 1}), timeout=TIMEOUT)
    assert json.loads(answer.json) == 2**70 + 1 and answer.call_id > 0 and answer.worker.startswith("default-"), answer
    answer = pool.Call(request("reverse", {"data": {"$part": 0}}, [bytes(range(256))]), timeout=TIMEOUT)
    assert answer.json == '{"$part":0}' and list(answer.parts) == [bytes(range(256))[::-1]], answer


def check_stream():
    messages = list(pool.CallStream(pool_pb2.CallStreamRequest(call=request("count", {"n": 100})), timeout=TIMEOUT))
    assert [json.loads(m.json)["i"] for m in messages[:-1]] == list(range(100))
    assert messages[-1].result and messages[-1].call_id > 0 and not any(m.result for m in messages[:-1])


def check_errors():
    code, text, details = failure(lambda: pool.Call(request("refuse", {"retryable": True}), timeout=TIMEOUT))
    info = details["ErrorInfo"]
    assert code == grpc.StatusCode.UNKNOWN and "the disk is full" in text, (code, text)
    assert (info.domain, info.reason, info.metadata["may_have_run"]) == ("pitboss", "TOOL_RAISED", "true"), info
    assert json.loads(info.metadata["data"]) == {"free": 0} and info.metadata["tool_reason"] == "DISK_FULL" and info.metadata["tool"] == "refuse", info
    assert "in refuse" in details["DebugInfo"].detail and "ToolError" in details["DebugInfo"].detail, details
    assert details["RetryInfo"].retry_delay.seconds >= 1, details
    _, _, details = failure(lambda: pool.Call(request("refuse", {"retryable": False}), timeout=TIMEOUT))
    assert "RetryInfo" not in details, details
    code, text, details = failure(lambda: pool.Call(request("add", {"a": 1}), timeout=TIMEOUT))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "'b'" in text and details["ErrorInfo"].reason == "BAD_ARGUMENTS", (code, text)
    code, _, details = failure(lambda: pool.Call(request("nothing", {}), timeout=TIMEOUT))
    assert code == grpc.StatusCode.NOT_FOUND and details["ErrorInfo"].reason == "UNKNOWN_TOOL", (code, details)
    code, _, _ = failure(lambda: channel.unary_unary("/pitboss.v1.Pool/Nothing")(b"", timeout=TIMEOUT))
    assert code == grpc.StatusCode.UNIMPLEMENTED, code


def check_health():
    serving = health_pb2.HealthCheckResponse
    for name in ("", "default"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT).status == serving.SERVING
    code, _, _ = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="elsewhere"), timeout=TIMEOUT))
    assert code == grpc.StatusCode.NOT_FOUND, code
    unknown = health.Watch(health_pb2.HealthCheckRequest(service="elsewhere"), timeout=TIMEOUT)
    assert next(unknown).status == serving.SERVICE_UNKNOWN
    unknown.cancel()


def check_reflection():
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="pitboss.v1.Pool"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="pitboss.v1.Nothing"),
    ]
    listed, found, missing = stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {"pitboss.v1.Pool", "pitboss.v1.Admin", "grpc.health.v1.Health"}, names
    files = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in found.file_descriptor_response.file_descriptor_proto]
    methods = {m.name for f in files for s in f.service if s.name == "Pool" for m in s.method}
    assert methods == {"Call", "CallStream", "ListTools"}, methods
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0], missing


def check_watch_to_the_end():
    """A watch follows the pool's state until the agent ends, and does not hold it up."""
    seen: "queue.Queue[object]" = queue.Queue()

    def watch():
        try:
            for message in health.Watch(health_pb2.HealthCheckRequest(service="default"), timeout=TIMEOUT):
                seen.put(message.status)
        except grpc.RpcError as error:
            seen.put(error.code())

    thread = threading.Thread(target=watch)
    thread.start()
    serving = health_pb2.HealthCheckResponse
    assert seen.get(timeout=TIMEOUT) == serving.SERVING
    admin.Stop(admin_pb2.StopRequest(reason="end of the test"), timeout=TIMEOUT)
    assert seen.get(timeout=TIMEOUT) == serving.NOT_SERVING
    assert seen.get(timeout=TIMEOUT) == grpc.StatusCode.UNAVAILABLE
    thread.join()


status = json.loads(admin.Status(admin_pb2.StatusRequest(), timeout=TIMEOUT).json)
assert status["pools"][0]["name"] == "default", status
listed = pool.ListTools(pool_pb2.ListToolsRequest(), timeout=TIMEOUT).tools
assert [t.name for t in listed] == ["add", "count", "refuse", "reverse"], listed
checks = [check_unary, check_stream, check_errors, check_health, check_reflection, check_watch_to_the_end]
for check in checks:
    check()
print(len(checks), "checks")
sys.exit(0)
