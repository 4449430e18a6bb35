# Puts a real Dynamo (ai-dynamo 1.6.1: its frontend, its mocker engine, its runtime) into a virtual environment, once per
# machine, in $E2E_TOOLS (default ~/.cache/tokenwatt-tools). What cannot be had is said and left out: the tests skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
python="$tools/dynamo/bin/python"
complete() { "$python" -c "import dynamo.frontend.main, dynamo.mocker.main"; }
complete 2>/dev/null && exit 0
rm -rf "$tools/dynamo"
# --no-deps: planner, router services and tokenizers of other engines are not used.
if python3 -m venv "$tools/dynamo" && "$python" -m pip install --quiet --no-deps ai-dynamo==1.6.1 \
  ai-dynamo-runtime==1.6.1 uvloop==0.23.0 typing_extensions==4.16.0 packaging==26.4 PyYAML==6.0.4 msgspec==0.22.0 \
  pydantic==2.13.5 pydantic_core==2.46.5 annotated-types==0.8.0 typing-inspection==0.4.5 prometheus_client==0.26.0 &&
  complete; then
  exit 0
fi
rm -rf "$tools/dynamo"
echo "NOT INSTALLED: Dynamo: Linux and python 3.10 or newer with venv and pip are needed" >&2
