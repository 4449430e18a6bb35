# Fetches the metrics code of engines into $E2E_TOOLS (default ~/.cache/tokenwatt-tools), once per machine: the
# python files of their wheels, and vLLM's Rust front end, without what they need to run models, and the libraries the metrics code itself imports.
# What cannot be had is said and left out: the tests then skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}/engines
python="$tools/bin/python"
missing() { echo "NOT INSTALLED: $1" >&2; }
if ! "$python" -c "import fastapi, grpc, msgspec, numpy, regex, uvicorn, zmq, prometheus_fastapi_instrumentator" 2>/dev/null; then
  rm -rf "$tools"
  if ! python3 -m venv "$tools" || ! "$python" -m pip install --quiet prometheus_client==0.26.0 fastapi==0.165.0 \
    starlette==1.10.0 uvicorn==0.54.0 prometheus-fastapi-instrumentator==8.1.0 pydantic==2.14.4 msgspec==0.22.0 \
    numpy==2.4.6 regex==2026.11.19 pyzmq==27.3.0 grpcio==1.85.3 protobuf==6.33.6; then
    rm -rf "$tools"
    missing "engines: python 3.11 or newer with venv and pip is needed"
    exit 0
  fi
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for wheel in vllm==0.33.0 sglang==0.5.23 lmdeploy==0.18.0 kserve==0.21.0; do
  folder="$tools/source/$wheel"
  [ -d "$folder" ] && continue
  if "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$wheel"; then
    mkdir -p "$folder.part"
    # Only what is used: the wheels hold hundreds of megabytes of kernels. vllm-rs is vLLM's Rust front end.
    "$python" -c 'import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
archive.extractall(sys.argv[2], [name for name in archive.namelist() if name.endswith((".py", "/vllm-rs"))])' \
      "$work"/*.whl "$folder.part" && { chmod +x "$folder.part"/vllm/vllm-rs 2>/dev/null || true; } && mv "$folder.part" "$folder"
  fi
  [ -d "$folder" ] || missing "the metrics code of $wheel"
  rm -rf "$work"/* "$folder.part"
done
exit 0
