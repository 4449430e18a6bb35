# A real python gRPC server with real reflection and health, named like vLLM's engine but without its methods.
# grpc_server.py [FILES]: with TLS, showing FILES-server.pem and asking for a certificate of FILES-ca.pem.
import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
reflection.enable_server_reflection(("grpc.health.v1.Health", reflection.SERVICE_NAME), server)
if len(sys.argv) > 1:
    key, chain, ca = (open(f"{sys.argv[1]}-{ending}", "rb").read() for ending in ("server.key", "server.pem", "ca.pem"))
    credentials = grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
else:
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
