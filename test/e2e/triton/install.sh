# Puts a real Triton into a virtual environment, once per machine, in $E2E_TOOLS (default ~/.cache/tokenwatt-tools):
# the tritonserver of the nvidia-pytriton wheel (2.51.0, runs without a GPU), its python back end, and Triton's client.
# What cannot be had is said and left out: the tests then skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
python="$tools/triton/bin/python"
complete() { "$python" -c "import tritonclient.grpc, importlib.util; assert importlib.util.find_spec('pytriton')"; }
complete 2>/dev/null && exit 0
rm -rf "$tools/triton"
# --no-deps: of pytriton only the files of the server are used.
if [ "$(uname -m)" = x86_64 ] && python3 -m venv "$tools/triton" &&
  "$python" -m pip install --quiet --no-deps nvidia-pytriton==0.7.0 &&
  "$python" -m pip install --quiet --no-deps numpy==1.26.4 tritonclient==2.73.0 grpcio==1.81.1 protobuf==6.33.6 \
    python-rapidjson==1.25 urllib3==2.8.0 ml_dtypes==0.5.4 typing_extensions==4.16.0 packaging==26.4 &&
  complete; then
  exit 0
fi
rm -rf "$tools/triton"
echo "NOT INSTALLED: Triton: Linux x64 and python 3.9 to 3.12 with venv and pip are needed" >&2
