"""A client of a running agent with nothing but stock gRPC: no pitboss is installed here.

Make the stubs once, then run the client beside an agent:

    pip install -r examples/clients/python/requirements.txt
    python -m grpc_tools.protoc -I proto --python_out=stubs --grpc_python_out=stubs proto/pitboss/v1/*.proto
    PYTHONPATH=stubs pitboss run examples/clients/tools.py -- python examples/clients/python/client.py

The stubs are a package "pitboss", as is the library of tool authors: a program that needs both must not have them on one path.
"""

import json
import os
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from pitboss.v1 import pool_pb2, pool_pb2_grpc


def main() -> int:
    channel = grpc.insecure_channel("unix:" + os.environ["PITBOSS_SOCKET"])
    with channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="default"), timeout=60)
        print("health:", health_pb2.HealthCheckResponse.ServingStatus.Name(health.status))
        pool = pool_pb2_grpc.PoolStub(channel)

        answer = pool.Call(pool_pb2.CallRequest(tool="add", json=json.dumps({"a": 20, "b": 22})), timeout=60)
        print("add:", json.loads(answer.json))

        # Bytes travel beside the JSON, which names them by their number: no base64.
        answer = pool.Call(pool_pb2.CallRequest(tool="reverse", json='{"data": {"$part": 0}}', parts=[b"abc"]), timeout=60)
        print("reverse:", answer.parts[json.loads(answer.json)["$part"]].decode())

        for message in pool.CallStream(pool_pb2.CallStreamRequest(call=pool_pb2.CallRequest(tool="count", json='{"n": 3}')), timeout=60):
            if not message.result:
                print("count:", json.loads(message.json)["i"])

        try:
            pool.Call(pool_pb2.CallRequest(tool="refuse", json='{"retryable": true}'), timeout=60)
        except grpc.RpcError as error:
            print("refuse:", explain(error))
    return 0


def explain(error: grpc.RpcError) -> str:
    """What the details of a failed call say."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    can_retry = False
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        detail.Unpack(info)
        can_retry = detail.Unpack(retry) or can_retry
    return (
        f"{info.reason}, tool's reason {info.metadata['tool_reason']}, may have run {info.metadata['may_have_run']}, data {info.metadata['data']}, "
        f"retry {str(can_retry).lower()} after {retry.retry_delay.seconds}s"
    )


if __name__ == "__main__":
    sys.exit(main())
