// Preloaded into a process it writes down, in the order they happened, every change to files under $RECORD_ROOT: names
// made, moved and removed, bytes written, lengths cut, and what was synced. disk-model.ts reads the log ($RECORD_LOG)
// and works out what a disk may hold after a power cut. One lock around call and log entry keeps their order the same.
// Left out: mmap (SQLite's -shm, which it rebuilds) and calls that neither Node nor SQLite makes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_MOVE, OP_REMOVE, OP_FOLDER };

struct head {
  uint32_t op;
  uint32_t first_bytes;
  uint32_t second_bytes;
  uint32_t reserved;
  uint64_t inode;
  uint64_t number;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char watched[65536];
static const char *root;
static size_t root_length;
static int log_file = -1;

__attribute__((constructor)) static void begin(void) {
  root = getenv("RECORD_ROOT");
  const char *path = getenv("RECORD_LOG");
  if (root == NULL || path == NULL) return;
  root_length = strlen(root);
  log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
  if (log_file < 0 || strncmp(path, root, root_length) != 0) return 0;
  return path[root_length] == '/' || path[root_length] == 0;
}

static int is_watched(int file) {
  return log_file >= 0 && file >= 0 && file < (int)sizeof watched && watched[file];
}

static void put(const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    long done = syscall(SYS_write, log_file, at, length);
    if (done <= 0) abort();
    at += done;
    length -= done;
  }
}

static void note(uint32_t op, int file, uint64_t number, const void *first, size_t first_bytes, const char *second) {
  struct stat found = {0};
  if (file >= 0) fstat(file, &found);
  struct head head = {op, first_bytes, second == NULL ? 0 : strlen(second), 0, found.st_ino, number};
  put(&head, sizeof head);
  put(first, first_bytes);
  put(second, head.second_bytes);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int note_open(const char *path, int flags, int file, int existed) {
  if (file < 0 || file >= (int)sizeof watched) return file;
  watched[file] = 1;
  if (!existed && (flags & O_CREAT)) note(OP_CREATE, file, 0, path, strlen(path), NULL);
  else if (flags & O_TRUNC) note(OP_TRUNCATE, file, 0, NULL, 0, NULL);
  return file;
}

#define OPEN(name)                                                     \
  int name(const char *path, int flags, ...) {                         \
    va_list rest;                                                      \
    va_start(rest, flags);                                             \
    mode_t mode = va_arg(rest, mode_t);                                \
    va_end(rest);                                                      \
    if (!is_ours(path)) return REAL(name)(path, flags, mode);          \
    pthread_mutex_lock(&lock);                                         \
    int existed = access(path, F_OK) == 0;                             \
    int file = REAL(name)(path, flags, mode);                          \
    note_open(path, flags, file, existed);                             \
    pthread_mutex_unlock(&lock);                                       \
    return file;                                                       \
  }
OPEN(open)
OPEN(open64)

int close(int file) {
  if (is_watched(file)) watched[file] = 0;
  return REAL(close)(file);
}

#define WRITE_AT(name, offset_type)                                              \
  ssize_t name(int file, const void *bytes, size_t length, offset_type offset) { \
    if (!is_watched(file)) return REAL(name)(file, bytes, length, offset);       \
    pthread_mutex_lock(&lock);                                                   \
    ssize_t done = REAL(name)(file, bytes, length, offset);                      \
    if (done > 0) note(OP_WRITE, file, offset, bytes, done, NULL);               \
    pthread_mutex_unlock(&lock);                                                 \
    return done;                                                                 \
  }
WRITE_AT(pwrite, off_t)
WRITE_AT(pwrite64, off64_t)

ssize_t write(int file, const void *bytes, size_t length) {
  if (!is_watched(file)) return REAL(write)(file, bytes, length);
  pthread_mutex_lock(&lock);
  ssize_t done = REAL(write)(file, bytes, length);
  if (done > 0) note(OP_WRITE, file, lseek(file, 0, SEEK_CUR) - done, bytes, done, NULL);
  pthread_mutex_unlock(&lock);
  return done;
}

static void note_parts(int file, uint64_t at, const struct iovec *parts, int count, ssize_t done) {
  for (int part = 0; part < count && done > 0; part++) {
    ssize_t length = (ssize_t)parts[part].iov_len < done ? (ssize_t)parts[part].iov_len : done;
    if (length > 0) note(OP_WRITE, file, at, parts[part].iov_base, length, NULL);
    at += length;
    done -= length;
  }
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  if (!is_watched(file)) return REAL(writev)(file, parts, count);
  pthread_mutex_lock(&lock);
  ssize_t done = REAL(writev)(file, parts, count);
  if (done > 0) note_parts(file, lseek(file, 0, SEEK_CUR) - done, parts, count, done);
  pthread_mutex_unlock(&lock);
  return done;
}

#define WRITE_PARTS_AT(name, offset_type)                                                  \
  ssize_t name(int file, const struct iovec *parts, int count, offset_type offset) {       \
    if (!is_watched(file)) return REAL(name)(file, parts, count, offset);                  \
    pthread_mutex_lock(&lock);                                                             \
    ssize_t done = REAL(name)(file, parts, count, offset);                                 \
    if (done > 0) note_parts(file, offset, parts, count, done);                            \
    pthread_mutex_unlock(&lock);                                                           \
    return done;                                                                           \
  }
WRITE_PARTS_AT(pwritev, off_t)
WRITE_PARTS_AT(pwritev64, off64_t)

#define SYNC(name)                                  \
  int name(int file) {                              \
    if (!is_watched(file)) return REAL(name)(file); \
    pthread_mutex_lock(&lock);                      \
    int failed = REAL(name)(file);                  \
    if (!failed) note(OP_SYNC, file, 0, NULL, 0, NULL); \
    pthread_mutex_unlock(&lock);                    \
    return failed;                                  \
  }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, length_type)                                      \
  int name(int file, length_type length) {                               \
    if (!is_watched(file)) return REAL(name)(file, length);              \
    pthread_mutex_lock(&lock);                                           \
    int failed = REAL(name)(file, length);                               \
    if (!failed) note(OP_TRUNCATE, file, length, NULL, 0, NULL);         \
    pthread_mutex_unlock(&lock);                                         \
    return failed;                                                       \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
  if (!is_ours(to)) return REAL(rename)(from, to);
  pthread_mutex_lock(&lock);
  int failed = REAL(rename)(from, to);
  if (!failed) note(OP_MOVE, -1, 0, from, strlen(from), to);
  pthread_mutex_unlock(&lock);
  return failed;
}

int unlink(const char *path) {
  if (!is_ours(path)) return REAL(unlink)(path);
  pthread_mutex_lock(&lock);
  int failed = REAL(unlink)(path);
  if (!failed) note(OP_REMOVE, -1, 0, path, strlen(path), NULL);
  pthread_mutex_unlock(&lock);
  return failed;
}

int mkdir(const char *path, mode_t mode) {
  if (!is_ours(path)) return REAL(mkdir)(path, mode);
  pthread_mutex_lock(&lock);
  int failed = REAL(mkdir)(path, mode);
  int folder = failed ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    note(OP_FOLDER, folder, 0, path, strlen(path), NULL);
    syscall(SYS_close, folder);
  }
  pthread_mutex_unlock(&lock);
  return failed;
}
