# ClickHouse's engine (chdb) as a child: a JSON line {"sql", "format"} in, a JSON line {"text"} or {"error"} out.
import json
import sys

from chdb import session

engine = session.Session()
for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = {"text": str(engine.query(asked["sql"], asked.get("format", "JSONCompact")))}
    except Exception as error:
        answer = {"error": str(error)[:2000]}
        # What a query that failed half-way had printed already comes with the next answer.
        engine.query("SELECT 1")
    print(json.dumps(answer), flush=True)
