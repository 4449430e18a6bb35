"""grpcio's own weighted_round_robin with reports out of band, over the addresses given: calls them until it is ended, each
call where the balancer says. Who was called knows how often."""

import json
import sys
import time

import grpc

BALANCING = {
    "enableOobLoadReport": True,
    "oobReportingPeriod": "1s",
    "blackoutPeriod": "0s",
    "weightExpirationPeriod": "4s",
    "weightUpdatePeriod": "1s",
}
config = json.dumps({"loadBalancingConfig": [{"weighted_round_robin": BALANCING}]})
options = [("grpc.service_config", config), ("grpc.enable_http_proxy", 0)]


def same(message: bytes) -> bytes:
    return message


with grpc.insecure_channel(f"ipv4:{','.join(sys.argv[1:])}", options) as channel:
    say = channel.unary_unary("/chat.Chat/Say", request_serializer=same, response_deserializer=same)
    while True:
        try:
            say(bytes(2), timeout=5, wait_for_ready=True)
        except grpc.RpcError as error:
            print("a call failed:", error.code(), error.details(), file=sys.stderr)
        time.sleep(0.005)
