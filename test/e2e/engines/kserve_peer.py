# KServe's own code: kserve_peer.py FOLDER page|grpc. "page" fills the histograms of kserve.metrics and serves them as its
# server does; "grpc" serves its copy of the inference service, which has no statistics. Prints the port.
import sys
import time
from concurrent import futures

import stubs

REAL = ["kserve.metrics", "kserve.protocol.grpc.grpc_predict_v2_pb2", "kserve.protocol.grpc.grpc_predict_v2_pb2_grpc"]
stubs.install("kserve", sys.argv[1], REAL)


def page():
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from kserve.metrics import POST_HIST_TIME, PRE_HIST_TIME, PREDICT_HIST_TIME, get_labels
    from prometheus_client import REGISTRY, make_wsgi_app

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    for _ in range(3):
        for family in (PRE_HIST_TIME, PREDICT_HIST_TIME, POST_HIST_TIME):
            with family.labels(**get_labels("m")).time():
                time.sleep(0.001)
    server = make_server("127.0.0.1", 0, make_wsgi_app(REGISTRY), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


def serve():
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2, grpc_predict_v2_pb2_grpc

    class Servicer(grpc_predict_v2_pb2_grpc.GRPCInferenceServiceServicer):
        def ServerMetadata(self, request, context):
            return grpc_predict_v2_pb2.ServerMetadataResponse(name="kserve", version="0.21.0")

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


page() if sys.argv[2] == "page" else serve()
