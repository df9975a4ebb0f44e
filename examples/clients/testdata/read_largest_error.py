"""Reads the largest errors with stock gRPC for Python, whose limit for trailers is the usual one."""

import json
import os
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pitboss.v1 import pool_pb2, pool_pb2_grpc

pool = pool_pb2_grpc.PoolStub(grpc.insecure_channel("unix:" + os.environ["PITBOSS_SOCKET"]))
sizes = [(message, data) for message in (1, 100, 5000) for data in (2, 2000, 4096)]
for message, data in sizes:
    try:
        pool.Call(pool_pb2.CallRequest(tool="fails", json=json.dumps({"message": message, "data": data})), timeout=60)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None and error.code() == grpc.StatusCode.UNKNOWN, (message, data, error)
        details = {detail.TypeName().rpartition(".")[2]: detail for detail in status.details}
        info, debug = error_details_pb2.ErrorInfo(), error_details_pb2.DebugInfo()
        assert details["ErrorInfo"].Unpack(info) and details["DebugInfo"].Unpack(debug), details
        assert (info.reason, info.metadata["tool_reason"]) == ("TOOL_RAISED", "R" * 63), info
        assert len(info.metadata["data"]) == data and "é%" in status.message and "é%" in debug.detail, (message, data, status)
        taken = sum(len(key) + len(value) for key, value in error.trailing_metadata()) + len(error.details().encode())
        print(message, data, taken, file=sys.stderr)
    else:
        raise AssertionError("the call did not fail")
print(len(sizes), "errors")
