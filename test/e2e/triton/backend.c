// A Triton backend that streams COUNT responses and reports each of them: python models cannot, so only a backend in C
// shows response_stats as Triton counts them. Declarations after the backend API 1.x of Triton 2.51 (tritonbackend.h).
// A negative COUNT is a failed request; a stream that was given up is reported as cancelled.
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef struct Error Error;
typedef struct Instance Instance;
typedef struct Request Request;
typedef struct Input Input;
typedef struct Factory Factory;
typedef struct Response Response;
typedef struct Output Output;
typedef struct Statistics Statistics;

enum { INT32 = 8, FINAL = 1, RELEASE_ALL = 1, CODE_INTERNAL = 1, CODE_CANCELLED = 7 };

Error* TRITONSERVER_ErrorNew(int code, const char* message);
void TRITONSERVER_ErrorDelete(Error* error);
Error* TRITONBACKEND_RequestInput(Request*, const char* name, Input**);
Error* TRITONBACKEND_InputBuffer(Input*, uint32_t index, const void**, uint64_t* size, int* type, int64_t* id);
Error* TRITONBACKEND_RequestRelease(Request*, uint32_t flags);
Error* TRITONBACKEND_ResponseFactoryNew(Factory**, Request*);
Error* TRITONBACKEND_ResponseFactoryDelete(Factory*);
Error* TRITONBACKEND_ResponseFactoryIsCancelled(Factory*, bool*);
Error* TRITONBACKEND_ResponseFactorySendFlags(Factory*, uint32_t flags);
Error* TRITONBACKEND_ResponseNewFromFactory(Response**, Factory*);
Error* TRITONBACKEND_ResponseOutput(Response*, Output**, const char*, int type, const int64_t*, uint32_t);
Error* TRITONBACKEND_OutputBuffer(Output*, void**, uint64_t size, int* type, int64_t* id);
Error* TRITONBACKEND_ResponseSend(Response*, uint32_t flags, Error*);
Error* TRITONBACKEND_ModelInstanceReportStatistics(
    Instance*, Request*, bool success, uint64_t, uint64_t, uint64_t, uint64_t);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsNew(Statistics**);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetModelInstance(Statistics*, Instance*);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseFactory(Statistics*, Factory*);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseStart(Statistics*, uint64_t);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetComputeOutputStart(Statistics*, uint64_t);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseEnd(Statistics*, uint64_t);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsSetError(Statistics*, Error*);
Error* TRITONBACKEND_ModelInstanceReportResponseStatistics(Statistics*);
Error* TRITONBACKEND_ModelInstanceResponseStatisticsDelete(Statistics*);

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Tells Triton of one response; `output` is false for a response without content.
static void report(Instance* instance, Factory* factory, uint64_t start, bool output, Error* error) {
  Statistics* statistics;
  TRITONBACKEND_ModelInstanceResponseStatisticsNew(&statistics);
  TRITONBACKEND_ModelInstanceResponseStatisticsSetModelInstance(statistics, instance);
  TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseFactory(statistics, factory);
  TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseStart(statistics, start);
  if (output) TRITONBACKEND_ModelInstanceResponseStatisticsSetComputeOutputStart(statistics, now());
  TRITONBACKEND_ModelInstanceResponseStatisticsSetResponseEnd(statistics, now());
  TRITONBACKEND_ModelInstanceResponseStatisticsSetError(statistics, error);
  TRITONBACKEND_ModelInstanceReportResponseStatistics(statistics);
  TRITONBACKEND_ModelInstanceResponseStatisticsDelete(statistics);
}

static void send_token(Factory* factory, int32_t token) {
  const int64_t shape[] = {1};
  Response* response;
  Output* output;
  void* buffer;
  int type = 0;
  int64_t id = 0;
  TRITONBACKEND_ResponseNewFromFactory(&response, factory);
  TRITONBACKEND_ResponseOutput(response, &output, "TOKEN", INT32, shape, 1);
  TRITONBACKEND_OutputBuffer(output, &buffer, sizeof token, &type, &id);
  memcpy(buffer, &token, sizeof token);
  TRITONBACKEND_ResponseSend(response, 0, NULL);
}

static void fail(Instance* instance, Factory* factory, uint64_t start, int code) {
  Error* error = TRITONSERVER_ErrorNew(code, code == CODE_CANCELLED ? "given up" : "negative");
  Response* response;
  TRITONBACKEND_ResponseNewFromFactory(&response, factory);
  TRITONBACKEND_ResponseSend(response, FINAL, error);
  report(instance, factory, start, true, error);
  TRITONSERVER_ErrorDelete(error);
}

static void serve(Instance* instance, Request* request) {
  const uint64_t began = now();
  Input* input;
  Factory* factory;
  const void* buffer;
  uint64_t size;
  int type = 0;
  int64_t id = 0;
  int32_t count;
  TRITONBACKEND_ResponseFactoryNew(&factory, request);
  TRITONBACKEND_RequestInput(request, "COUNT", &input);
  TRITONBACKEND_InputBuffer(input, 0, &buffer, &size, &type, &id);
  memcpy(&count, buffer, sizeof count);
  bool cancelled = false;
  for (int32_t token = 0; token < count && !cancelled; token++) {
    const uint64_t start = now();
    send_token(factory, token);
    report(instance, factory, start, true, NULL);
    if (token >= 100) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    TRITONBACKEND_ResponseFactoryIsCancelled(factory, &cancelled);
  }
  if (cancelled || count < 0) fail(instance, factory, now(), cancelled ? CODE_CANCELLED : CODE_INTERNAL);
  else {
    TRITONBACKEND_ResponseFactorySendFlags(factory, FINAL);
    report(instance, factory, now(), false, NULL);
  }
  const uint64_t end = now();
  TRITONBACKEND_ModelInstanceReportStatistics(instance, request, count >= 0 && !cancelled, began, began, end, end);
  TRITONBACKEND_ResponseFactoryDelete(factory);
  TRITONBACKEND_RequestRelease(request, RELEASE_ALL);
}

Error* TRITONBACKEND_ModelInstanceExecute(Instance* instance, Request** requests, const uint32_t count) {
  for (uint32_t at = 0; at < count; at++) serve(instance, requests[at]);
  return NULL;
}
