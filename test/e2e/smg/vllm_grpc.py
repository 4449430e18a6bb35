# The real gRPC server for vLLM that smg ships (vllm.grpc.engine.VllmEngine), in front of engines/rust_engine.py, which
# runs in the python given: vllm_grpc.py PYTHON FOLDER_OF_VLLM MODEL SOCKETS. Prints the address once the engine is there.
import os
import socket
import subprocess
import sys
import time

from smg.servicer import VllmGrpcServer

python, source, model, sockets = sys.argv[1:]
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    handshake = free.getsockname()[1]
server = VllmGrpcServer(
    "127.0.0.1:0",
    f"ipc://{sockets}/engine",
    f"tcp://127.0.0.1:{handshake}",
    model,
    tokenizer_dir=model,
    served_model_name="one",
    kv_role="kv_consumer",
    max_context_length=2048,
    vocab_size=10,
    eos_token_ids=[2],
    model_type="llama",
    log_stats=True,
)
engine = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "engines", "rust_engine.py")
child = subprocess.Popen([python, engine, source, str(handshake), "1", "0.005"], stdout=sys.stderr)
while not server.engine_ready:
    if child.poll() is not None or server.last_error:
        sys.exit(f"the engine is gone: {child.poll()} {server.last_error}")
    server.note_engine_alive()
    time.sleep(0.05)
print(server.address, flush=True)
# Ends with its parent, which closes this program's input.
sys.stdin.read()
child.kill()
server.stop()
