# Sends requests to a Triton by its own client: requests.py HOST:PORT MODEL COUNT [COUNT...]; a line per request says how
# many responses came, or the error. `cancel:COUNT` gives the stream up after its first response.
import queue
import sys

import numpy
import tritonclient.grpc as triton


def main():
    address, model, *counts = sys.argv[1:]
    client = triton.InferenceServerClient(address)
    for text in counts:
        cancel = text.startswith("cancel:")
        count = triton.InferInput("COUNT", [1], "INT32")
        count.set_data_from_numpy(numpy.array([int(text.removeprefix("cancel:"))], dtype=numpy.int32))
        print(stream(client, model, count, cancel) if model != "plain" else once(client, model, count), flush=True)


def once(client, model, count):
    try:
        client.infer(model, [count])
        return 1
    except triton.InferenceServerException as error:
        return error.message()


def stream(client, model, count, cancel):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put(error or result))
    client.async_stream_infer(model, [count], enable_empty_final_response=True)
    sent = 0
    while True:
        answer = answers.get(timeout=30)
        if isinstance(answer, Exception):
            break
        if answer.get_response().parameters["triton_final_response"].bool_param:
            break
        sent += 1
        if cancel:
            break
    client.stop_stream(cancel_requests=cancel)
    return sent if not isinstance(answer, Exception) else answer.message()


main()
