# Puts the real gateway smg and the published protos of the engines' gRPC mode (smg-grpc-proto) into a virtual
# environment, once per machine, in $E2E_TOOLS (default ~/.cache/tokenwatt-tools). What cannot be had is said and
# left out: the tests then skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
python="$tools/smg/bin/python"
complete() { "$python" -c "import smg_grpc_proto, grpc_reflection, grpc_health" && [ -x "$tools/smg/bin/smg" ]; }
complete 2>/dev/null && exit 0
rm -rf "$tools/smg"
if python3 -m venv "$tools/smg" && "$python" -m pip install --quiet smg==1.13.0 smg-grpc-proto==0.4.28 \
  grpcio==1.81.1 grpcio-reflection==1.81.1 grpcio-health-checking==1.81.1 protobuf==6.33.6 && complete; then
  exit 0
fi
rm -rf "$tools/smg"
echo "NOT INSTALLED: smg: python 3.10 or newer with venv and pip is needed" >&2
