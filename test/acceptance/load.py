# A load of known token counts on one CUDA GPU, for npm run test:gpu: phases of work and rest, logged as recording format 1
# (agent/METERING.md 10). A "request" is a fixed number of decoder-shaped matrix products, timed on the GPU; each counts the
# tokens it stands for, so that every token and every active second is known. Needs python3 with torch and CUDA.
# usage: load.py LOG SECONDS
import json
import os
import sys
import time

try:
    import torch
except ImportError:
    sys.exit("torch is not installed")
if not torch.cuda.is_available():
    sys.exit("torch sees no CUDA GPU")

log = open(sys.argv[1], "w", buffering=1)
seconds = float(sys.argv[2])
counts = {"prompt_tokens_total": 0, "generation_tokens_total": 0, "requests_total": 0}


def say(**line):
    log.write(json.dumps({"t": time.time(), **line}) + "\n")


say(event="start", pid=os.getpid(), requests_running=0, **counts)
weights = [torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(16)]
state = torch.randn(64, 4096, device="cuda", dtype=torch.float16)


def step():
    global state
    for weight in weights:
        state = torch.nn.functional.layer_norm(state @ weight, (4096,))


def request(tokens):
    say(requests_running=64, **counts)
    began = time.time()
    for _ in range(tokens):
        step()
    torch.cuda.synchronize()
    counts["prompt_tokens_total"] += 64 * 128
    counts["generation_tokens_total"] += 64 * tokens
    counts["requests_total"] += 64
    now = time.time()
    log.write(json.dumps({"t": now, "event": "req", "e2e_s": now - began, "ttft_s": 0.0, "requests_running": 0, **counts}) + "\n")


say(event="loaded", requests_running=0, **counts)
for _ in range(20):
    step()
torch.cuda.synchronize()
say(event="warm", requests_running=0, **counts)
end = time.time() + seconds
while time.time() < end:
    for phase, length in (("idle", 6), ("serve", 10), ("pulse", 10)):
        say(event="phase", phase=phase, requests_running=0, **counts)
        until = min(end, time.time() + length)
        while time.time() < until:
            if phase == "idle":
                time.sleep(max(0.0, until - time.time()))
                continue
            request(400 if phase == "serve" else 1200)
            if phase == "pulse":
                time.sleep(1.0)
say(event="end", requests_running=0, **counts)
