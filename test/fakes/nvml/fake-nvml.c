/* A libnvidia-ml.so.1 without a GPU: two GPUs by default, driven by the file "<path of this library>.scenario".
 * The file is read again whenever it changes, so a test can lose a GPU or reconfigure MIG under a running reader.
 * One directive per line: "gpus N", "fail CALL GPU CODE" (GPU -1 = all), "hang CALL GPU", "util GPU PERCENT",
 * "power GPU MILLIWATTS", "energy GPU MILLIJOULES_PER_SECOND", "base GPU MILLIJOULES", "processes GPU N", "pid GPU FIRST",
 * "mig GPU SLICES,SLICES,..." with generation "miggen N", "clock unix|boot|odd", "garbage 1", "gpm nan|zero|ok",
 * "arch N", "xid GPU CODE EVENTS", "calls 1" (append every call to "<path>.calls"), "wide BYTES" (structs are that much
 * longer than ours, the rest is written too), "span FROM TO" (Unix microseconds in which every GPU works at 100 % and draws
 * 420 W more than its "power"; TO 0 = still; its histories follow), "name TEXT" (the product), "limit GPU MILLIWATTS", "module GPU MILLIWATTS" (0 = no part of a module), "slices N" (instances the
 * board can hold).
 * It is built as one driver: -DDRIVER_VERSION='"535.86.05"' has that driver's row sizes, symbols and field ids. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What a driver of some version is: the size of a row of the process lists, the generation of names it exports, where its
 * throttle counters are. */
#ifndef DRIVER_VERSION
#define DRIVER_VERSION "580.00.00"
#endif
#ifndef ROW_BYTES
#define ROW_BYTES 24
#endif
#if DRIVER_GENERATION == 2 /* 450 to 495: process calls end at _v2, no second memory call, no GPM. */
#define nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses_v2
#define nvmlDeviceGetMPSComputeRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses_v2
#elif DRIVER_GENERATION == 1 /* Before: no suffix at all, rows of 16 bytes. */
#define nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses
#define nvmlDeviceGetMPSComputeRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses
#define nvmlDeviceGetPciInfo_v3 nvmlDeviceGetPciInfo_v2
#define nvmlEventSetWait_v2 nvmlEventSetWait
#endif

#if DRIVER_GENERATION /* What did not exist yet goes by a name that nobody asks for. */
#define nvmlDeviceGetMemoryInfo_v2 absentMemoryInfo_v2
#define nvmlGpmQueryDeviceSupport absentGpmQueryDeviceSupport
#define nvmlGpmSampleAlloc absentGpmSampleAlloc
#define nvmlGpmSampleFree absentGpmSampleFree
#define nvmlGpmSampleGet absentGpmSampleGet
#define nvmlGpmMigSampleGet absentGpmMigSampleGet
#define nvmlGpmMetricsGet absentGpmMetricsGet
#endif

#define GPUS 16
#define SLOTS 7
#define RULES 32
#define SPANS 512
#define EXPORT __attribute__((visibility("default")))

typedef struct { char call[64]; int gpu; int code; } Rule;
typedef struct {
  int gpus, arch, garbage, gpm, clock, calls, miggen, wide, slices;
  char name[96];
  double util[GPUS], power[GPUS], rate[GPUS], base[GPUS], limit[GPUS], module[GPUS];
  int processes[GPUS], pid[GPUS], mig[GPUS][SLOTS], migs[GPUS], xidCode[GPUS], xidEvents[GPUS];
  Rule fail[RULES], hang[RULES];
  int fails, hangs, spans;
  int64_t span[SPANS][2];
} Scenario;

static Scenario now_, *S = &now_;
static char path_[4096];
static struct timespec loaded_;
static off_t size_ = -1;
static pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
static int eventsSent[GPUS];

static int64_t micros(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
static int64_t driverNow(void) {
  if (S->clock == 1) return micros(CLOCK_MONOTONIC);
  if (S->clock == 2) return micros(CLOCK_MONOTONIC) + 7777777777LL;
  return micros(CLOCK_REALTIME);
}

static void defaults(void) {
  memset(S, 0, sizeof *S);
  S->gpus = 2; S->arch = 9; S->slices = 7; strcpy(S->name, "NVIDIA Fake H100");
  for (int i = 0; i < GPUS; i++) { S->util[i] = 50; S->power[i] = 300000; S->rate[i] = 300000; S->base[i] = 1e9; S->processes[i] = 1; S->limit[i] = 700000; }
}

static void directive(char *line) {
  char word[64] = "", call[64] = "", rest[256] = "";
  int gpu = 0, code = 0; double value = 0;
  if (sscanf(line, "%63s", word) != 1) return;
  if (!strcmp(word, "fail") && sscanf(line, "%*s %63s %d %d", call, &gpu, &code) == 3 && S->fails < RULES) {
    Rule *r = &S->fail[S->fails++]; strcpy(r->call, call); r->gpu = gpu; r->code = code; return;
  }
  if (!strcmp(word, "hang") && sscanf(line, "%*s %63s %d", call, &gpu) == 2 && S->hangs < RULES) {
    Rule *r = &S->hang[S->hangs++]; strcpy(r->call, call); r->gpu = gpu; return;
  }
  if (!strcmp(word, "clock") && sscanf(line, "%*s %63s", call) == 1) { S->clock = !strcmp(call, "boot") ? 1 : !strcmp(call, "odd") ? 2 : 0; return; }
  if (!strcmp(word, "gpm") && sscanf(line, "%*s %63s", call) == 1) { S->gpm = !strcmp(call, "nan") ? 1 : !strcmp(call, "zero") ? 2 : 0; return; }
  if (!strcmp(word, "mig") && sscanf(line, "%*s %d %255s", &gpu, rest) == 2 && gpu >= 0 && gpu < GPUS) {
    S->migs[gpu] = 0;
    for (char *p = strtok(rest, ","); p && S->migs[gpu] < SLOTS; p = strtok(NULL, ",")) S->mig[gpu][S->migs[gpu]++] = atoi(p);
    return;
  }
  long long from = 0, to = 0;
  if (!strcmp(word, "span") && sscanf(line, "%*s %lld %lld", &from, &to) == 2) {
    if (S->spans < SPANS) { S->span[S->spans][0] = from; S->span[S->spans++][1] = to; }
    return;
  }
  if (!strcmp(word, "name") && sscanf(line, "%*s %95[^\n]", S->name) == 1) return;
  int events = 0;
  if (!strcmp(word, "xid") && sscanf(line, "%*s %d %d %d", &gpu, &code, &events) == 3 && gpu >= 0 && gpu < GPUS) { S->xidEvents[gpu] = events; S->xidCode[gpu] = code; return; }
  if (sscanf(line, "%*s %d %lf", &gpu, &value) == 2 && gpu >= 0 && gpu < GPUS) {
    if (!strcmp(word, "util")) S->util[gpu] = value;
    if (!strcmp(word, "power")) S->power[gpu] = value;
    if (!strcmp(word, "energy")) S->rate[gpu] = value;
    if (!strcmp(word, "base")) S->base[gpu] = value;
    if (!strcmp(word, "processes")) S->processes[gpu] = (int)value;
    if (!strcmp(word, "pid")) S->pid[gpu] = (int)value;
    if (!strcmp(word, "limit")) S->limit[gpu] = value;
    if (!strcmp(word, "module")) S->module[gpu] = value;
    return;
  }
  if (sscanf(line, "%*s %d", &gpu) != 1) return;
  if (!strcmp(word, "gpus")) S->gpus = gpu > GPUS ? GPUS : gpu;
  if (!strcmp(word, "arch")) S->arch = gpu;
  if (!strcmp(word, "garbage")) S->garbage = gpu;
  if (!strcmp(word, "calls")) S->calls = gpu;
  if (!strcmp(word, "miggen")) S->miggen = gpu;
  if (!strcmp(word, "wide")) S->wide = gpu;
  if (!strcmp(word, "slices")) S->slices = gpu;
}

static void load(void) {
  struct stat st;
  if (!path_[0]) {
    Dl_info info;
    dladdr((void *)load, &info);
    snprintf(path_, sizeof path_, "%s.scenario", info.dli_fname);
    defaults();
  }
  if (stat(path_, &st) != 0) return;
  if (st.st_mtim.tv_sec == loaded_.tv_sec && st.st_mtim.tv_nsec == loaded_.tv_nsec && st.st_size == size_) return;
  FILE *f = fopen(path_, "r");
  if (!f) return;
  loaded_ = st.st_mtim; size_ = st.st_size;
  defaults();
  char line[512];
  while (fgets(line, sizeof line, f)) directive(line);
  fclose(f);
}

/* Every call starts here: notes the call, hangs or fails when told to. */
static int enter(const char *call, int gpu) {
  pthread_mutex_lock(&lock_);
  load();
  if (S->calls) {
    char log[4200];
    snprintf(log, sizeof log, "%s.calls", path_);
    FILE *f = fopen(log, "a");
    if (f) { fprintf(f, "%s %d\n", call, gpu); fclose(f); }
  }
  int code = 0, hang = 0;
  for (int i = 0; i < S->hangs; i++) if (!strcmp(S->hang[i].call, call) && (S->hang[i].gpu == -1 || S->hang[i].gpu == gpu)) hang = 1;
  for (int i = 0; i < S->fails; i++) if (!strcmp(S->fail[i].call, call) && (S->fail[i].gpu == -1 || S->fail[i].gpu == gpu)) code = S->fail[i].code;
  for (int i = 0; i < S->fails; i++) if (!strcmp(S->fail[i].call, "device") && strcmp(call, "nvmlInit_v2") && gpu >= 0 && (S->fail[i].gpu == -1 || S->fail[i].gpu == gpu)) code = S->fail[i].code;
  pthread_mutex_unlock(&lock_);
  while (hang) pause();
  return code;
}
#define ENTER(gpu) do { int code_ = enter(__func__, gpu); if (code_) return code_; } while (0)

/* Handles: 0x7f0000000000 + 0x1000 * (gpu + 1) + 1 + MIG slot (0 = the board). */
static uint64_t handleOf(int gpu, int slot) { return 0x7f0000000000ull + 0x1000ull * (gpu + 1) + 1 + slot; }
static int gpuOf(uint64_t h) { return (int)((h - 0x7f0000000000ull) / 0x1000) - 1; }
static int slotOf(uint64_t h) { return (int)((h & 0xfff) - 1); }
static int isMig(uint64_t h) { return slotOf(h) > 0; }
#define GPU gpuOf(h)
static double seconds(void) { return micros(CLOCK_MONOTONIC) / 1e6; }
/* Microseconds of work in [from, to), Unix time. */
static int64_t worked(int64_t from, int64_t to) {
  int64_t sum = 0;
  for (int i = 0; i < S->spans; i++) {
    int64_t a = S->span[i][0], b = S->span[i][1] ? S->span[i][1] : micros(CLOCK_REALTIME);
    if (a < from) a = from;
    if (b > to) b = to;
    if (b > a) sum += b - a;
  }
  return sum;
}
/* Percent and milliwatts of a window that ends at `to` in the driver's clock. */
static uint32_t utilAt(int gpu, int64_t to, int64_t length) {
  if (!S->spans) return (uint32_t)S->util[gpu];
  to += micros(CLOCK_REALTIME) - driverNow();
  return (uint32_t)(100 * worked(to - length, to) / length);
}
static uint32_t powerAt(int gpu, int64_t to, int64_t length) {
  if (!S->spans) return (uint32_t)S->power[gpu];
  to += micros(CLOCK_REALTIME) - driverNow();
  return (uint32_t)(S->power[gpu] + 420000.0 * worked(to - length, to) / length);
}
/* A struct that ends here is longer in this driver: it writes on. */
static void spill(void *end) { memset(end, 0x5a, (size_t)S->wide); }
/* The driver's version as one number: 580.82.07 is 580082. */
static int version(void) { int a = 0, b = 0; sscanf(DRIVER_VERSION, "%d.%d", &a, &b); return a * 1000 + b; }
static uint32_t absurd(uint32_t value) { return S->garbage ? (uint32_t)(value * 2654435761u) | 0x80000000u : value; }

EXPORT int nvmlInit_v2(void) { ENTER(-1); return 0; }
EXPORT int nvmlShutdown(void) { ENTER(-1); return 0; }
EXPORT int nvmlSystemGetDriverVersion(char *o, unsigned n) { ENTER(-1); snprintf(o, n, "%s", DRIVER_VERSION); return 0; }
EXPORT int nvmlSystemGetNVMLVersion(char *o, unsigned n) { ENTER(-1); snprintf(o, n, "13.580.00"); return 0; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *o) { ENTER(-1); *o = S->gpus; return 0; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, uint64_t *o) { ENTER((int)i); if ((int)i >= S->gpus) return 2; *o = handleOf(i, 0); return 0; }
EXPORT int nvmlDeviceGetUUID(uint64_t h, char *o, unsigned n) {
  ENTER(GPU);
  if (isMig(h)) snprintf(o, n, "MIG-%08d-0000-4000-8000-%06d%06d", GPU, S->miggen, slotOf(h));
  else snprintf(o, n, "GPU-%08d-0000-4000-8000-000000000000", GPU);
  return 0;
}
EXPORT int nvmlDeviceGetName(uint64_t h, char *o, unsigned n) {
  ENTER(GPU);
  if (isMig(h)) { int s = S->mig[GPU][slotOf(h) - 1]; snprintf(o, n, "%s MIG %dg.%dgb", S->name, s, s * 10); }
  else snprintf(o, n, "%s", S->name);
  return 0;
}
EXPORT int nvmlDeviceGetPciInfo_v3(uint64_t h, char *o) { ENTER(GPU); memset(o, 0, 36); snprintf(o, 16, "0000:%02X:00.0", GPU + 1);
#if DRIVER_GENERATION != 1
  snprintf(o + 36, 32, "00000000:%02X:00.0", GPU + 1);
#endif
  spill(o + 68); return 0; }
EXPORT int nvmlDeviceGetArchitecture(uint64_t h, unsigned *o) { ENTER(GPU); *o = S->arch; return 0; }
EXPORT int nvmlDeviceGetCudaComputeCapability(uint64_t h, int *a, int *b) { ENTER(GPU); *a = S->arch == 7 ? 8 : S->arch; *b = 0; return 0; }
EXPORT int nvmlDeviceGetPersistenceMode(uint64_t h, unsigned *o) { ENTER(GPU); *o = 1; return 0; }
EXPORT int nvmlDeviceGetEnforcedPowerLimit(uint64_t h, unsigned *o) { ENTER(GPU); *o = (unsigned)S->limit[GPU]; return 0; }
static uint64_t totalOf(uint64_t h) { return isMig(h) ? 10ull * (1ull << 30) * S->mig[GPU][slotOf(h) - 1] : 80ull << 30; }
EXPORT int nvmlDeviceGetMemoryInfo_v2(uint64_t h, uint64_t *o) { ENTER(GPU); if ((uint32_t)o[0] != 0x02000028) return 25; o[1] = totalOf(h); o[2] = 1 << 20; o[4] = S->garbage ? o[1] * 5 : o[1] / 4; o[3] = o[1] - o[4]; spill(o + 5); return 0; }
EXPORT int nvmlDeviceGetMemoryInfo(uint64_t h, uint64_t *o) { ENTER(GPU); o[0] = totalOf(h); o[2] = S->garbage ? ~0ull - 1 : o[0] / 4; o[1] = o[0] - o[2]; spill(o + 3); return 0; }
EXPORT int nvmlDeviceGetUtilizationRates(uint64_t h, unsigned *o) { ENTER(GPU); if (isMig(h) || S->migs[GPU]) return 3; o[0] = absurd(utilAt(GPU, driverNow() / 200000 * 200000, 200000)); o[1] = absurd(10); spill(o + 2); return 0; }
EXPORT int nvmlDeviceGetSamples(uint64_t h, unsigned type, uint64_t last, unsigned *valueType, unsigned *n, uint64_t *o) {
  ENTER(GPU);
  if (type == 1 && (isMig(h) || S->migs[GPU])) return 3;
  if (type == 1 && S->util[GPU] == 0 && !S->spans) return 6;
  int64_t step = type == 1 ? 200000 : 20000, t = driverNow() / step * step;
  unsigned room = *n, count = 0, ring = type == 1 ? 71 : 119;
  if (room < ring) { *n = ring; return 7; }
  for (int i = (int)ring - 1; i >= 0; i--) {
    int64_t at = t - i * step;
    if (at <= (int64_t)last) continue;
    o[count * 2] = S->garbage && i % 3 == 0 ? ~0ull >> (i % 13) : (uint64_t)at;
    o[count * 2 + 1] = type == 1 ? absurd(utilAt(GPU, at, 200000)) : absurd(powerAt(GPU, at, 20000));
    count++;
  }
  spill(o + count * 2);
  *n = count; *valueType = S->garbage ? 99 : 1;
  return count ? 0 : 6;
}
EXPORT int nvmlDeviceGetTotalEnergyConsumption(uint64_t h, uint64_t *o) {
  ENTER(GPU);
  if (isMig(h) || S->arch < 5) return 3;
  *o = S->garbage ? ~0ull - 7 : (uint64_t)(S->base[GPU] + S->rate[GPU] * seconds() + 0.42 * worked(0, micros(CLOCK_REALTIME)));
  return 0;
}
EXPORT int nvmlDeviceGetPowerUsage(uint64_t h, unsigned *o) { ENTER(GPU); if (isMig(h)) return 3; *o = absurd(powerAt(GPU, driverNow(), 1000000)); return 0; }
typedef struct { uint32_t id, scope; int64_t at, latency; uint32_t type, code; uint64_t value; } Field;
/* 0.3 s of throttling a second where the counter is, else a setting (575.51 and later) or nothing. */
static void throttle(Field *f, int isCounter, uint32_t setting) {
  if (isCounter) f->value = (uint64_t)(seconds() * 3e8);
  else if (version() >= 575051) { f->value = setting; f->type = 1; }
  else f->code = 3;
}
EXPORT int nvmlDeviceGetFieldValues(uint64_t h, int n, Field *f) {
  ENTER(GPU);
  for (int i = 0; i < n; i++) {
    f[i].type = 3; f[i].code = 0; f[i].at = driverNow(); f[i].latency = 0;
    switch (f[i].id) {
      case 185: case 186: f[i].value = powerAt(GPU, driverNow(), f[i].id == 185 ? 1000000 : 20000); f[i].type = 1; if (S->arch <= 7) f[i].code = 3;
        if (f[i].scope == 1) { f[i].value = (uint64_t)S->module[GPU]; f[i].code = S->module[GPU] ? 0 : 3; }
        break;
      case 82: f[i].value = 60; f[i].type = 1; break;
      case 74: f[i].value = (uint64_t)(seconds() * 1e8); break;
      case 75: f[i].value = 0; break;
      /* Thermal and brake counters: 251-253 from 575.51, 269-271 from 580.82; the others are settings of power smoothing. */
      case 251: case 252: case 253: throttle(&f[i], version() >= 575051 && version() < 580082, f[i].id == 251 ? 2 : 90); break;
      case 269: case 270: case 271: throttle(&f[i], version() >= 580082, f[i].id == 269 ? 2 : 4000); break;
      case 197: f[i].value = (uint64_t)(seconds() * 1e6); break;
      case 198: f[i].value = (uint64_t)(seconds() * 2e6); break;
      case 138: case 139: f[i].value = (uint64_t)(seconds() * 1e3); break;
      default: f[i].code = 3;
    }
    if (S->garbage) { f[i].value = ~0ull >> (i % 7); f[i].type = i % 9; }
  }
  spill(f + n);
  return 0;
}
static uint32_t firstPid(int gpu) { return S->pid[gpu] ? (uint32_t)S->pid[gpu] : 1000000u + 10000u * gpu; }
#if ROW_BYTES == 32
typedef struct { uint32_t pid, pad; uint64_t memory; uint32_t gi, ci; uint64_t protected; } Process;
#elif ROW_BYTES == 16
typedef struct { uint32_t pid, pad; uint64_t memory; } Process;
#else
typedef struct { uint32_t pid, pad; uint64_t memory; uint32_t gi, ci; } Process;
#endif
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(uint64_t h, unsigned *n, Process *rows) {
  ENTER(GPU);
  unsigned count = S->processes[GPU], room = *n;
  *n = count;
  if (count > room) return 7;
  for (unsigned i = 0; i < count; i++) {
    /* Row i, counted from the first: a wide driver's rows lie further apart. */
    Process *p = (Process *)((char *)rows + i * (size_t)S->wide);
    p[i].pid = S->garbage ? 0xfffffff0u + i : firstPid(GPU) + 1000u * slotOf(h) + i;
    p[i].memory = i % 5 == 4 ? ~0ull : (1ull << 30) + i;
#if ROW_BYTES > 16
    p[i].gi = isMig(h) ? (uint32_t)slotOf(h) : 0xffffffffu; p[i].ci = p[i].gi;
#endif
#if ROW_BYTES == 32
    p[i].protected = i % 2 ? ~0ull : 0;
#endif
    spill(&p[i + 1]);
  }
  return 0;
}
EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(uint64_t h, unsigned *n, Process *p) { (void)p; ENTER(GPU); *n = 0; return 0; }
typedef struct { uint32_t pid, pad; uint64_t at; uint32_t sm, mem, enc, dec; } Share;
EXPORT int nvmlDeviceGetProcessUtilization(uint64_t h, Share *s, unsigned *n, uint64_t last) {
  ENTER(GPU);
  if (isMig(h) || S->migs[GPU]) return 3;
  unsigned count = S->processes[GPU], room = *n;
  *n = count;
  if (count > room) return 7;
  uint64_t at = driverNow() / 200000 * 200000;
  if (!count || at <= last) return 6;
  for (unsigned i = 0; i < count; i++) {
    s[i].pid = firstPid(GPU) + i; s[i].at = i % 7 == 6 ? 0 : at; s[i].sm = i % 6 == 5 ? 4000 : (unsigned)(S->util[GPU] / count);
    s[i].mem = s[i].enc = s[i].dec = 0;
  }
  spill(s + count);
  return 0;
}
EXPORT int nvmlDeviceGetClockInfo(uint64_t h, unsigned type, unsigned *o) { ENTER(GPU); *o = absurd(type == 2 ? 2619 : 1980); return 0; }
EXPORT int nvmlDeviceGetEncoderUtilization(uint64_t h, unsigned *o, unsigned *us) { ENTER(GPU); if (isMig(h) || S->migs[GPU]) return 3; *o = absurd(7); *us = 167000; return 0; }
EXPORT int nvmlDeviceGetDecoderUtilization(uint64_t h, unsigned *o, unsigned *us) { ENTER(GPU); if (isMig(h) || S->migs[GPU]) return 3; *o = absurd(13); *us = 167000; return 0; }
EXPORT int nvmlDeviceGetTemperature(uint64_t h, unsigned sensor, unsigned *o) { (void)sensor; ENTER(GPU); *o = absurd(55); return 0; }
EXPORT int nvmlDeviceGetTotalEccErrors(uint64_t h, unsigned type, unsigned counter, uint64_t *o) { (void)counter; ENTER(GPU); *o = type ? 1 : 5; return 0; }
EXPORT int nvmlDeviceGetMigMode(uint64_t h, unsigned *a, unsigned *b) { ENTER(GPU); *a = *b = S->migs[GPU] > 0; return 0; }
EXPORT int nvmlDeviceGetMaxMigDeviceCount(uint64_t h, unsigned *o) { ENTER(GPU); *o = (unsigned)S->slices; return 0; }
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(uint64_t h, unsigned i, uint64_t *o) { ENTER(GPU); if ((int)i >= S->migs[GPU]) return 6; *o = handleOf(GPU, i + 1); return 0; }
EXPORT int nvmlDeviceGetGpuInstanceId(uint64_t h, unsigned *o) { ENTER(GPU); if (!isMig(h)) return 2; *o = slotOf(h); return 0; }
EXPORT int nvmlDeviceGetComputeInstanceId(uint64_t h, unsigned *o) { ENTER(GPU); if (!isMig(h)) return 2; *o = 0; return 0; }
EXPORT int nvmlDeviceGetAttributes_v2(uint64_t h, uint32_t *o) { ENTER(GPU); if (!isMig(h)) return 3; memset(o, 0, 40); int s = S->mig[GPU][slotOf(h) - 1]; o[0] = 16 * s; o[6] = s; o[7] = s; spill(o + 10); return 0; }

/* GPM: a sample is a slot of ours with its instant; metrics are a function of the scenario. */
typedef struct { double at; int gpu, instance; } Sample;
typedef struct { uint32_t id, code; double value; void *a, *b, *c; } Metric;
typedef struct { uint32_t version, count; Sample *one, *two; Metric metrics[]; } Metrics;
EXPORT int nvmlGpmQueryDeviceSupport(uint64_t h, uint32_t *o) { ENTER(GPU); if (o[0] != 1) return 25; o[1] = S->arch >= 9; spill(o + 2); return 0; }
EXPORT int nvmlGpmSampleAlloc(Sample **o) { ENTER(-1); *o = calloc(1, sizeof **o); return 0; }
EXPORT int nvmlGpmSampleFree(Sample *s) { ENTER(-1); free(s); return 0; }
EXPORT int nvmlGpmSampleGet(uint64_t h, Sample *s) { ENTER(GPU); s->at = seconds(); s->gpu = GPU; s->instance = -1; return 0; }
EXPORT int nvmlGpmMigSampleGet(uint64_t h, unsigned gi, Sample *s) { ENTER(GPU); s->at = seconds(); s->gpu = GPU; s->instance = (int)gi; return 0; }
EXPORT int nvmlGpmMetricsGet(Metrics *m) {
  ENTER(-1);
  if (m->version != 1) return 25;
  int gpu = m->two->gpu;
  if (m->two->at <= m->one->at) return 2;
  for (uint32_t i = 0; i < m->count; i++) {
    Metric *k = &m->metrics[i];
    double percent = k->id == 1 ? S->util[gpu] : k->id == 2 ? S->util[gpu] * 0.8 : k->id == 5 ? S->util[gpu] * 0.5 : k->id == 10 ? S->util[gpu] * 0.6 : 12.5;
    k->code = k->id <= 61 ? 0 : 3;
    k->value = S->gpm == 1 ? 0.0 / 0.0 : S->gpm == 2 ? 0 : S->garbage ? 1e300 : percent;
  }
  /* Header 13.5: 477 metrics, 19104 bytes; this driver clears what was not asked for. */
  memset(&m->metrics[m->count], 0, (477 - m->count) * sizeof(Metric));
  spill(&m->metrics[477]);
  return 0;
}

typedef struct { uint64_t device, type, data; uint32_t gi, ci; } Event;
static int registered[GPUS];
EXPORT int nvmlEventSetCreate(uint64_t *o) { ENTER(-1); *o = 0x7e0000000001ull; return 0; }
EXPORT int nvmlEventSetFree(uint64_t s) { (void)s; ENTER(-1); return 0; }
EXPORT int nvmlDeviceGetSupportedEventTypes(uint64_t h, uint64_t *o) { ENTER(GPU); *o = 0x8 | 0x10; return 0; }
EXPORT int nvmlDeviceRegisterEvents(uint64_t h, uint64_t mask, uint64_t s) { (void)s; ENTER(GPU); if (mask & ~0x18ull) return 3; registered[GPU] = 1; return 0; }
/* Sleeps until the scenario's folder changes or the time is up, as a driver's wait sleeps: a bench counts who wakes. */
static void sleepUntilWritten(int ms) {
  static int changes = -1;
  char events[4096];
  if (changes < 0) {
    char folder[sizeof path_];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path_, '/') - path_), path_);
    changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(changes, folder, IN_CLOSE_WRITE | IN_MOVED_TO);
    ms = 0;
  }
  struct pollfd ready = {changes, POLLIN, 0};
  if (poll(&ready, 1, ms) > 0) while (read(changes, events, sizeof events) > 0) {}
}
EXPORT int nvmlEventSetWait_v2(uint64_t s, Event *e, unsigned ms) {
  (void)s;
  ENTER(-1);
  double until = seconds() + ms / 1000.0;
  for (;;) {
    pthread_mutex_lock(&lock_);
    load();
    for (int g = 0; g < S->gpus; g++) if (registered[g] && eventsSent[g] < S->xidEvents[g]) {
      eventsSent[g]++;
      e->device = handleOf(g, 0); e->type = 8; e->data = S->xidCode[g];
#if DRIVER_GENERATION != 1
      e->gi = e->ci = 0xffffffffu;
      spill(e + 1);
#endif

      pthread_mutex_unlock(&lock_);
      return 0;
    }
    pthread_mutex_unlock(&lock_);
    double left = until - seconds();
    if (left <= 0) return 10;
    sleepUntilWritten((int)(left * 1000) + 1);
  }
}
