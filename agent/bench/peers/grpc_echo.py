"""A grpcio server on a unix socket that answers pitboss.v1.Pool/Call with the bytes that it got: nothing is decoded."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


server = grpc.server(ThreadPoolExecutor(max_workers=1))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
print("up", flush=True)
sys.stdin.read()
server.stop(None)
