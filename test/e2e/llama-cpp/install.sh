# Builds the real llama-server (CPU only) from the source that the Python package llama-cpp-python carries, into
# $E2E_TOOLS (default ~/.cache/tokenwatt-tools). That is four to eight minutes of two cores, so it is done only
# when asked for: E2E_LLAMA_CPP=1.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
version=0.3.36
[ -x "$tools/llama-server" ] && exit 0
if [ "${E2E_LLAMA_CPP-}" != 1 ]; then
  echo "NOT INSTALLED: llama-server is built only with E2E_LLAMA_CPP=1" >&2
  exit 0
fi
for need in python3 cmake c++; do
  command -v "$need" >/dev/null 2>&1 || { echo "NOT INSTALLED: llama-server needs $need" >&2; exit 0; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$tools"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python "llama-cpp-python==$version" -d "$work"
tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
cmake -S "$work/llama_cpp_python-$version/vendor/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF \
  -DGGML_OPENMP=OFF -DGGML_CPU_REPACK=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >/dev/null
cmake --build "$work/build" --target llama-server -j "$(nproc)" >/dev/null
mv "$work/build/bin/llama-server" "$tools/llama-server"
