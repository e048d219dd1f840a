/*
 * A preloaded library between a program and libc that sees, counts, records and breaks every change to files.
 *
 *     cc -shared -fPIC -O2 -o shim.so shim.c -ldl
 *     LD_PRELOAD=./shim.so python ...          then ctypes.CDLL(None).shim_arm(...)
 *
 * Python and SQLite reach the kernel through the functions below (SQLite's table of system calls is filled by the
 * dynamic linker), so a store cannot change a file unseen. Only paths under the prefix given to shim_trace or shim_arm
 * count. Not seen: writes through a mapping (SQLite's shared memory of a write-ahead log, which nobody recovers from),
 * hard links, and programs that make system calls by themselves. Rejected: ptrace, a hundred times slower and unable to
 * write half a buffer; a FUSE file system, which needs privileges and another daemon to die at the right moment.
 *
 * Exported, for ctypes:
 *
 *     void        shim_trace(const char *prefix, int fd)       record every successful change; fd < 0 ends it
 *     void        shim_mark(const char *text)                  put a mark into the record
 *     void        shim_arm(const char *prefix, int mode, long at, int error)
 *     long        shim_count(void)                             changes attempted since shim_arm
 *     const char *shim_name(long n)                            the n-th of them, "pwrite64 catalog.db-journal"
 *     long        shim_failed(void)                            calls that were made to fail since shim_arm
 *     long        shim_broken(void)                            the number of the first of those
 *
 * The last four stay readable in a parent after its forked child died: they live in shared memory. The parent has one
 * child at a time.
 *
 * A record is, little-endian, <B3xIIQQ: op u8, 3 bytes of padding, length of path1 u32, length of path2 u32, offset u64,
 * length of the data u64; then path1, path2 and the data. Paths are absolute and resolved.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum op {
    OP_NONE = 0,     /* counted, but no change that a record could replay */
    OP_CREATE = 1,   /* path1 came into being, empty */
    OP_WRITE = 2,    /* data at offset */
    OP_TRUNCATE = 3, /* the file is now `offset` bytes long; a growth reads as zeros */
    OP_SYNC = 4,     /* of a file */
    OP_SYNC_DIR = 5,
    OP_RENAME = 6, /* path1 to path2 */
    OP_UNLINK = 7,
    OP_MKDIR = 8,
    OP_RMDIR = 9,
    OP_MARK = 10 /* path1 is the mark's text */
};

enum mode {
    MODE_OFF = 0,
    MODE_COUNT = 1,
    MODE_DIE_BEFORE = 2,
    MODE_DIE_AFTER = 3,
    MODE_FAIL_ONCE = 4,
    MODE_FAIL_FROM = 5,
    MODE_DIE_MIDWAY = 6, /* half of a write reaches the file; other calls are never begun */
    MODE_FULL_FROM = 7   /* as MODE_FAIL_FROM, but what frees space succeeds: a full disk */
};

#define NAMES 8192 /* changes whose names are kept; later ones are only counted */
#define NAME 120

struct shared {
    long count;
    long failed;
    long broken;
    char names[NAMES][NAME];
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct shared *shared;
static char trace_prefix[PATH_MAX], arm_prefix[PATH_MAX];
static int trace_fd = -1;
static int arm_mode, arm_error;
static long arm_at;

#define REAL(name, type, ...)                                                                                          \
    static type (*real_##name)(__VA_ARGS__);                                                                           \
    static void find_##name(void) {                                                                                    \
        if (!real_##name)                                                                                              \
            *(void **)&real_##name = dlsym(RTLD_NEXT, #name);                                                          \
    }

REAL(open, int, const char *, int, ...)
REAL(openat, int, int, const char *, int, ...)
REAL(write, ssize_t, int, const void *, size_t)
REAL(pwrite, ssize_t, int, const void *, size_t, off_t)
REAL(ftruncate, int, int, off_t)
REAL(truncate, int, const char *, off_t)
REAL(fsync, int, int)
REAL(fdatasync, int, int)
REAL(sync_file_range, int, int, off64_t, off64_t, unsigned int)
REAL(renameat2, int, int, const char *, int, const char *, unsigned int)
REAL(unlinkat, int, int, const char *, int)
REAL(mkdirat, int, int, const char *, mode_t)
REAL(fallocate, int, int, int, off_t, off_t)
REAL(posix_fallocate, int, int, off_t, off_t)
REAL(copy_file_range, ssize_t, int, off64_t *, int, off64_t *, size_t, unsigned int)
REAL(sendfile, ssize_t, int, int, off_t *, size_t)

__attribute__((constructor)) static void prepare(void) {
    find_open(), find_openat(), find_write(), find_pwrite(), find_ftruncate(), find_truncate(), find_fsync();
    find_fdatasync(), find_sync_file_range(), find_renameat2(), find_unlinkat(), find_mkdirat(), find_fallocate();
    find_posix_fallocate(), find_copy_file_range(), find_sendfile();
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static struct shared own;
    shared = page == MAP_FAILED ? &own : page;
}

/* -- paths ---------------------------------------------------------------------------------------------------------- */

/* The path of a descriptor; false where it has none any more (unlinked), or never had one. */
static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length <= 0 || out[0] != '/')
        return 0;
    out[length] = 0;
    struct stat found;
    return fstat(fd, &found) == 0 && found.st_nlink > 0;
}

/* An absolute path: the directory resolved, the last part as it is. */
static int resolve(int directory, const char *path, char *out) {
    char joined[PATH_MAX * 2], parent[PATH_MAX];
    if (!path || !*path)
        return 0;
    if (path[0] == '/') {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        char base[PATH_MAX];
        if (directory == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(directory, base))
            return 0;
        snprintf(joined, sizeof joined, "%s/%s", base, path);
    }
    for (size_t end = strlen(joined); end > 1 && joined[end - 1] == '/'; end--)
        joined[end - 1] = 0;
    char *slash = strrchr(joined, '/');
    char *name = slash + 1;
    if (slash == joined) {
        snprintf(out, PATH_MAX, "%s", joined);
        return 1;
    }
    *slash = 0;
    if (!realpath(joined, parent))
        return 0;
    return snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", name) < PATH_MAX;
}

static int under(const char *prefix, const char *path) {
    size_t length = strlen(prefix);
    if (!length || !path || strncmp(prefix, path, length))
        return 0;
    return prefix[length - 1] == '/' || path[length] == 0 || path[length] == '/';
}

/* -- one change ----------------------------------------------------------------------------------------------------- */

struct change {
    int traced, armed;
    const char *call;
    int frees; /* succeeds on a full disk */
    char path1[PATH_MAX], path2[PATH_MAX];
    long number;
};

static void die(void) {
    for (;;) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static int watching(void) { return trace_fd >= 0 || arm_mode != MODE_OFF; }

static int interesting(struct change *change) {
    change->traced = trace_fd >= 0 && (under(trace_prefix, change->path1) || under(trace_prefix, change->path2));
    change->armed = arm_mode && (under(arm_prefix, change->path1) || under(arm_prefix, change->path2));
    return change->traced || change->armed;
}

/* Count the change; true where it must fail now, with errno set. Holds the turn from here until `end`. */
static int begin(struct change *change) {
    pthread_mutex_lock(&turn);
    if (!change->armed)
        return 0;
    change->number = ++shared->count;
    const char *path = under(arm_prefix, change->path1) ? change->path1 : change->path2;
    const char *rest = path + strlen(arm_prefix);
    if (change->number < NAMES)
        snprintf(shared->names[change->number], NAME, "%s %s", change->call, *rest == '/' ? rest + 1 : rest);
    int due = change->number == arm_at;
    if (arm_mode == MODE_DIE_BEFORE && due)
        die();
    if ((arm_mode == MODE_FAIL_ONCE && due) || (arm_mode == MODE_FAIL_FROM && change->number >= arm_at) ||
        (arm_mode == MODE_FULL_FROM && change->number >= arm_at && !change->frees)) {
        if (!shared->failed++)
            shared->broken = change->number;
        errno = arm_error;
        return 1;
    }
    return 0;
}

static int midway(const struct change *change) {
    return change->armed && arm_mode == MODE_DIE_MIDWAY && change->number == arm_at;
}

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t done = real_write(trace_fd, at, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            static const char message[] = "shim: the trace cannot be written\n";
            real_write(2, message, sizeof message - 1);
            die();
        }
        at += done, size -= (size_t)done;
    }
}

static void record(enum op op, const char *path1, const char *path2, uint64_t offset, const void *data, uint64_t size) {
    unsigned char head[28] = {0};
    uint32_t length1 = (uint32_t)strlen(path1), length2 = (uint32_t)strlen(path2);
    head[0] = (unsigned char)op;
    memcpy(head + 4, &length1, 4);
    memcpy(head + 8, &length2, 4);
    memcpy(head + 12, &offset, 8);
    memcpy(head + 20, &size, 8);
    put(head, sizeof head);
    put(path1, length1);
    put(path2, length2);
    put(data, size);
}

static void end(struct change *change, int done, enum op op, uint64_t offset, const void *data, size_t size) {
    int error = errno;
    if (done && change->traced && op != OP_NONE)
        record(op, change->path1, change->path2, offset, data, size);
    if (change->armed && change->number == arm_at && (arm_mode == MODE_DIE_AFTER || arm_mode == MODE_DIE_MIDWAY))
        die();
    pthread_mutex_unlock(&turn);
    errno = error;
}

/* -- control -------------------------------------------------------------------------------------------------------- */

static void keep_prefix(char *out, const char *prefix) {
    char found[PATH_MAX];
    snprintf(out, PATH_MAX, "%s", prefix && realpath(prefix, found) ? found : prefix ? prefix : "");
}

void shim_trace(const char *prefix, int fd) {
    pthread_mutex_lock(&turn);
    keep_prefix(trace_prefix, prefix);
    trace_fd = fd;
    pthread_mutex_unlock(&turn);
}

void shim_mark(const char *text) {
    pthread_mutex_lock(&turn);
    if (trace_fd >= 0)
        record(OP_MARK, text, "", 0, "", 0);
    pthread_mutex_unlock(&turn);
}

void shim_arm(const char *prefix, int mode, long at, int error) {
    pthread_mutex_lock(&turn);
    keep_prefix(arm_prefix, prefix);
    arm_mode = mode, arm_at = at, arm_error = error;
    if (mode != MODE_OFF) {
        shared->count = shared->failed = shared->broken = 0;
    }
    pthread_mutex_unlock(&turn);
}

long shim_count(void) { return shared->count; }
long shim_failed(void) { return shared->failed; }
long shim_broken(void) { return shared->broken; }
const char *shim_name(long n) { return n > 0 && n <= shared->count && n < NAMES ? shared->names[n] : ""; }

/* -- opening -------------------------------------------------------------------------------------------------------- */

static int any_open(int directory, const char *path, int flags, mode_t mode, const char *call) {
    struct change change = {.call = call};
    struct stat found;
    if (!watching() || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE ||
        !resolve(directory, path, change.path1) || !interesting(&change))
        return real_openat(directory, path, flags, mode);
    int exists = fstatat(AT_FDCWD, change.path1, &found, 0) == 0;
    /* Opened only, or about to be refused: no change. */
    if (exists ? !(flags & O_TRUNC) || (flags & O_EXCL && flags & O_CREAT) || !S_ISREG(found.st_mode)
               : !(flags & O_CREAT))
        return real_openat(directory, path, flags, mode);
    int result = begin(&change) || midway(&change) ? -1 : real_openat(directory, path, flags, mode);
    end(&change, result >= 0, exists ? OP_TRUNCATE : OP_CREATE, 0, "", 0);
    return result;
}

#define MODE_ARGUMENT(flags)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(AT_FDCWD, path, flags, mode, "open");
}
int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(AT_FDCWD, path, flags | O_LARGEFILE, mode, "open64");
}
int openat(int directory, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(directory, path, flags, mode, "openat");
}
int openat64(int directory, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(directory, path, flags | O_LARGEFILE, mode, "openat64");
}
int creat(const char *path, mode_t mode) {
    return any_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, "creat");
}
int creat64(const char *path, mode_t mode) {
    return any_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC | O_LARGEFILE, mode, "creat64");
}

/* -- writing -------------------------------------------------------------------------------------------------------- */

static off_t position(int fd) {
    struct stat found;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &found) == 0)
        return found.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

/* At an offset, or (offset < 0) where the descriptor is. */
static ssize_t any_write(int fd, const void *data, size_t size, off_t offset, const char *call) {
    struct change change = {.call = call};
    if (!watching() || fd == trace_fd || !path_of(fd, change.path1) || !interesting(&change))
        return offset < 0 ? real_write(fd, data, size) : real_pwrite(fd, data, size, offset);
    off_t at = offset < 0 ? position(fd) : offset;
    ssize_t result = -1;
    if (!begin(&change)) {
        size_t part = midway(&change) ? size / 2 : size;
        result = offset < 0 ? real_write(fd, data, part) : real_pwrite(fd, data, part, offset);
    }
    end(&change, result > 0, OP_WRITE, (uint64_t)at, data, result > 0 ? (size_t)result : 0);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) { return any_write(fd, data, size, -1, "write"); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return any_write(fd, data, size, offset, "pwrite");
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return any_write(fd, data, size, offset, "pwrite64");
}

/* Gathered into one write: what a caller of writev can observe is the same, and half of it can be written. */
static ssize_t gathered(int fd, const struct iovec *parts, int count, off_t offset, const char *call) {
    size_t size = 0, at = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    char *data = malloc(size ? size : 1);
    if (!data) {
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < count; at += parts[i].iov_len, i++)
        memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
    ssize_t result = any_write(fd, data, size, offset, call);
    int error = errno;
    free(data);
    errno = error;
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) { return gathered(fd, parts, count, -1, "writev"); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return gathered(fd, parts, count, offset, "pwritev");
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return gathered(fd, parts, count, offset, "pwritev64");
}
/* Their flags are hints, or make the write wait: neither changes what is written. */
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    (void)flags;
    return gathered(fd, parts, count, offset, "pwritev2");
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    (void)flags;
    return gathered(fd, parts, count, offset, "pwritev64v2");
}

/* Copies inside the kernel: for the record, the data are read again from where they came. */
static ssize_t any_copy(int to, off64_t *to_offset, int from, off64_t *from_offset, size_t size, const char *call,
                        int is_sendfile, unsigned int flags) {
    struct change change = {.call = call};
    if (!watching() || !path_of(to, change.path1) || !interesting(&change))
        return is_sendfile ? real_sendfile(to, from, from_offset, size)
                           : real_copy_file_range(from, from_offset, to, to_offset, size, flags);
    off_t source = from_offset ? *from_offset : lseek(from, 0, SEEK_CUR);
    off_t target = to_offset ? *to_offset : position(to);
    ssize_t result = -1;
    if (!begin(&change)) {
        size_t part = size;
        struct stat found;
        if (midway(&change) && fstat(from, &found) == 0)
            part = (size_t)(found.st_size - source) < size ? (size_t)(found.st_size - source) / 2 : size / 2;
        result = is_sendfile ? real_sendfile(to, from, from_offset, part)
                             : real_copy_file_range(from, from_offset, to, to_offset, part, flags);
    }
    char *data = NULL;
    if (result > 0 && change.traced) {
        data = malloc((size_t)result);
        if (!data || pread(from, data, (size_t)result, source) != result)
            die();
    }
    end(&change, result > 0, OP_WRITE, (uint64_t)target, data, result > 0 ? (size_t)result : 0);
    int error = errno;
    free(data);
    errno = error;
    return result;
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    return any_copy(to, NULL, from, offset, size, "sendfile", 1, 0);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    return any_copy(to, NULL, from, offset, size, "sendfile64", 1, 0);
}
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned int flags) {
    return any_copy(to, to_offset, from, from_offset, size, "copy_file_range", 0, flags);
}

/* -- sizes ---------------------------------------------------------------------------------------------------------- */

static int any_truncate(int fd, const char *path, off_t size, const char *call) {
    struct change change = {.call = call};
    struct stat found;
    if (!watching() || !(path ? resolve(AT_FDCWD, path, change.path1) : path_of(fd, change.path1)) ||
        !interesting(&change))
        return path ? real_truncate(path, size) : real_ftruncate(fd, size);
    change.frees = (path ? stat(path, &found) : fstat(fd, &found)) == 0 && size <= found.st_size;
    int result = begin(&change) || midway(&change) ? -1 : path ? real_truncate(path, size) : real_ftruncate(fd, size);
    end(&change, result == 0, OP_TRUNCATE, (uint64_t)size, "", 0);
    return result;
}

int ftruncate(int fd, off_t size) { return any_truncate(fd, NULL, size, "ftruncate"); }
int ftruncate64(int fd, off64_t size) { return any_truncate(fd, NULL, size, "ftruncate64"); }
int truncate(const char *path, off_t size) { return any_truncate(-1, path, size, "truncate"); }
int truncate64(const char *path, off64_t size) { return any_truncate(-1, path, size, "truncate64"); }

/* Returns an error number, as posix_fallocate does. */
static int any_allocate(int fd, int mode, off_t offset, off_t size, const char *call, int is_posix) {
    struct change change = {.call = call};
    struct stat before;
    if (!watching() || !path_of(fd, change.path1) || !interesting(&change))
        return is_posix ? real_posix_fallocate(fd, offset, size) : real_fallocate(fd, mode, offset, size) ? errno : 0;
    int grows = !mode && fstat(fd, &before) == 0 && offset + size > before.st_size;
    int result;
    if (begin(&change) || midway(&change))
        result = errno;
    else
        result = is_posix ? real_posix_fallocate(fd, offset, size) : real_fallocate(fd, mode, offset, size) ? errno : 0;
    end(&change, result == 0, grows ? OP_TRUNCATE : OP_NONE, (uint64_t)(offset + size), "", 0);
    return result;
}

static int failed_with(int error) {
    if (error)
        errno = error;
    return error ? -1 : 0;
}

int posix_fallocate(int fd, off_t offset, off_t size) {
    return any_allocate(fd, 0, offset, size, "posix_fallocate", 1);
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    return any_allocate(fd, 0, offset, size, "posix_fallocate64", 1);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
    return failed_with(any_allocate(fd, mode, offset, size, "fallocate", 0));
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    return failed_with(any_allocate(fd, mode, offset, size, "fallocate64", 0));
}

/* -- syncing -------------------------------------------------------------------------------------------------------- */

static int any_sync(int fd, const char *call, int (*real)(int)) {
    struct change change = {.call = call};
    struct stat found;
    if (!watching() || !path_of(fd, change.path1) || !interesting(&change))
        return real(fd);
    int directory = fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
    int result = begin(&change) || midway(&change) ? -1 : real(fd);
    end(&change, result == 0, directory ? OP_SYNC_DIR : OP_SYNC, 0, "", 0);
    return result;
}

int fsync(int fd) { return any_sync(fd, "fsync", real_fsync); }
int fdatasync(int fd) { return any_sync(fd, "fdatasync", real_fdatasync); }

/* Promises nothing about durability (its manual says so): counted, never recorded as a sync. */
int sync_file_range(int fd, off64_t offset, off64_t size, unsigned int flags) {
    struct change change = {.call = "sync_file_range"};
    if (!watching() || !path_of(fd, change.path1) || !interesting(&change))
        return real_sync_file_range(fd, offset, size, flags);
    int result = begin(&change) || midway(&change) ? -1 : real_sync_file_range(fd, offset, size, flags);
    end(&change, 0, OP_NONE, 0, "", 0);
    return result;
}

/* -- names ---------------------------------------------------------------------------------------------------------- */

static int any_rename(int from_at, const char *from, int to_at, const char *to, unsigned int flags, const char *call) {
    struct change change = {.call = call};
    if (!watching() || !resolve(from_at, from, change.path1) || !resolve(to_at, to, change.path2) ||
        !interesting(&change))
        return real_renameat2(from_at, from, to_at, to, flags);
    int result = begin(&change) || midway(&change) ? -1 : real_renameat2(from_at, from, to_at, to, flags);
    end(&change, result == 0, OP_RENAME, 0, "", 0);
    return result;
}

int rename(const char *from, const char *to) { return any_rename(AT_FDCWD, from, AT_FDCWD, to, 0, "rename"); }
int renameat(int from_at, const char *from, int to_at, const char *to) {
    return any_rename(from_at, from, to_at, to, 0, "renameat");
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned int flags) {
    return any_rename(from_at, from, to_at, to, flags, "renameat2");
}

static int any_remove(int directory, const char *path, int flags, const char *call) {
    struct change change = {.call = call, .frees = 1};
    struct stat found;
    if (!watching() || !resolve(directory, path, change.path1) || !interesting(&change) ||
        fstatat(AT_FDCWD, change.path1, &found, AT_SYMLINK_NOFOLLOW))
        return real_unlinkat(directory, path, flags);
    int result = begin(&change) || midway(&change) ? -1 : real_unlinkat(directory, path, flags);
    end(&change, result == 0, flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK, 0, "", 0);
    return result;
}

int unlink(const char *path) { return any_remove(AT_FDCWD, path, 0, "unlink"); }
int unlinkat(int directory, const char *path, int flags) { return any_remove(directory, path, flags, "unlinkat"); }
int rmdir(const char *path) { return any_remove(AT_FDCWD, path, AT_REMOVEDIR, "rmdir"); }

static int any_mkdir(int directory, const char *path, mode_t mode, const char *call) {
    struct change change = {.call = call};
    struct stat found;
    if (!watching() || !resolve(directory, path, change.path1) || !interesting(&change) ||
        fstatat(AT_FDCWD, change.path1, &found, 0) == 0)
        return real_mkdirat(directory, path, mode);
    int result = begin(&change) || midway(&change) ? -1 : real_mkdirat(directory, path, mode);
    end(&change, result == 0, OP_MKDIR, 0, "", 0);
    return result;
}

int mkdir(const char *path, mode_t mode) { return any_mkdir(AT_FDCWD, path, mode, "mkdir"); }
int mkdirat(int directory, const char *path, mode_t mode) { return any_mkdir(directory, path, mode, "mkdirat"); }
