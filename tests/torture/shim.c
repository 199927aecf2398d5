/* Counts the calls that change files below one folder, keeps a list of them, and lets the n-th fail.

   Preloaded before libc. The process itself says what to watch (`shim_watch`) and which call is to fail, and how
   (`shim_arm`); until then every call passes. A full disk stays full: after the n-th call everything that would take
   room fails too, until `shim_arm(0, 0)`.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PASS, KILLED_BEFORE, KILLED_AFTER, TORN, FULL, BROKEN };
enum { FREES, GROWS };

static char root[PATH_MAX];
static size_t root_length;
static int list = -1;
static atomic_int calls, target, mode;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

void shim_watch(const char *folder, const char *file)
{
    list = REAL(open)(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
}

void shim_arm(int n, int how)
{
    atomic_store(&calls, 0);
    atomic_store(&mode, how);
    atomic_store(&target, n);
}

int shim_calls(void) { return atomic_load(&calls); }

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

static int is_inside(const char *path)
{
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The path that a call names, from the root of the file system. */
static const char *named(int folder, const char *path, char *full)
{
    char link[64];
    ssize_t length;

    if (!path || path[0] == '/' || !root_length)
        return path ? path : "";
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    length = readlink(link, full, PATH_MAX - strlen(path) - 2);
    if (length < 0)
        return "";
    full[length] = '/';
    strcpy(full + length + 1, path);
    return full;
}

/* The path of an open file. */
static const char *opened(int file, char *full)
{
    char link[64];
    ssize_t length;

    if (!root_length)
        return "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, full, PATH_MAX - 1);
    full[length < 0 ? 0 : length] = 0;
    return full;
}

/* Count and list a call, and say what is to become of it; who is to die before it does not return. */
static int step(const char *name, const char *path, const char *other, int grows)
{
    char line[2 * PATH_MAX + 64];
    int n, length, how = atomic_load(&mode), at = atomic_load(&target);

    if (!is_inside(path) && !is_inside(other))
        return PASS;
    n = atomic_fetch_add(&calls, 1) + 1;
    length = snprintf(line, sizeof line, "%d\t%s\t%s\t%s\n", n, name, path, other);
    if (list >= 0 && REAL(write)(list, line, length) != length)
        die();
    if (!at || n < at || (n > at && !(how == FULL && grows)))
        return PASS;
    if (how == KILLED_BEFORE)
        die();
    return how;
}

static int refused(int how)
{
    errno = how == FULL ? ENOSPC : EIO;
    return how == FULL || how == BROKEN;
}

/* A call of one step: refused, or done, and its process killed thereafter. */
#define STEP(type, name, path, other, grows, call)                      \
    do {                                                                \
        int before = errno, how = step(name, path, other, grows);       \
        type result;                                                    \
        if (refused(how))                                               \
            return -1;                                                  \
        errno = before;                                                 \
        result = (call);                                                \
        if (how == KILLED_AFTER || how == TORN)                         \
            die();                                                      \
        return result;                                                  \
    } while (0)

#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))

#define OPENING(function)                                                                       \
    int function(const char *path, int flags, ...)                                              \
    {                                                                                           \
        char full[PATH_MAX];                                                                    \
        va_list rest;                                                                           \
        va_start(rest, flags);                                                                  \
        mode_t rights = va_arg(rest, mode_t);                                                   \
        va_end(rest);                                                                           \
        if (!CHANGES(flags))                                                                    \
            return REAL(function)(path, flags, rights);                                         \
        STEP(int, "open", named(AT_FDCWD, path, full), "", GROWS, REAL(function)(path, flags, rights)); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(function)                                                                    \
    int function(int folder, const char *path, int flags, ...)                                  \
    {                                                                                           \
        char full[PATH_MAX];                                                                    \
        va_list rest;                                                                           \
        va_start(rest, flags);                                                                  \
        mode_t rights = va_arg(rest, mode_t);                                                   \
        va_end(rest);                                                                           \
        if (!CHANGES(flags))                                                                    \
            return REAL(function)(folder, path, flags, rights);                                 \
        STEP(int, "open", named(folder, path, full), "", GROWS, REAL(function)(folder, path, flags, rights)); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

int creat(const char *path, mode_t rights)
{
    char full[PATH_MAX];
    STEP(int, "open", named(AT_FDCWD, path, full), "", GROWS, REAL(creat)(path, rights));
}

/* A torn write is half of it, and death. */
#define WRITING(function, arguments, half, all)                         \
    ssize_t function arguments                                          \
    {                                                                   \
        char full[PATH_MAX];                                            \
        int before = errno, how = step("write", opened(file, full), "", GROWS); \
        ssize_t result;                                                 \
        if (refused(how))                                               \
            return -1;                                                  \
        errno = before;                                                 \
        result = how == TORN ? (half) : (all);                          \
        if (how == KILLED_AFTER || how == TORN)                         \
            die();                                                      \
        return result;                                                  \
    }
WRITING(write, (int file, const void *data, size_t size),
        REAL(write)(file, data, size / 2), REAL(write)(file, data, size))
WRITING(pwrite, (int file, const void *data, size_t size, off_t at),
        REAL(pwrite)(file, data, size / 2, at), REAL(pwrite)(file, data, size, at))
WRITING(pwrite64, (int file, const void *data, size_t size, off64_t at),
        REAL(pwrite64)(file, data, size / 2, at), REAL(pwrite64)(file, data, size, at))
WRITING(writev, (int file, const struct iovec *parts, int count),
        REAL(write)(file, parts[0].iov_base, parts[0].iov_len / 2), REAL(writev)(file, parts, count))
WRITING(pwritev, (int file, const struct iovec *parts, int count, off_t at),
        REAL(pwrite)(file, parts[0].iov_base, parts[0].iov_len / 2, at), REAL(pwritev)(file, parts, count, at))
WRITING(pwritev64, (int file, const struct iovec *parts, int count, off64_t at),
        REAL(pwrite64)(file, parts[0].iov_base, parts[0].iov_len / 2, at), REAL(pwritev64)(file, parts, count, at))
WRITING(sendfile, (int file, int from, off_t *at, size_t size),
        REAL(sendfile)(file, from, at, size / 2), REAL(sendfile)(file, from, at, size))
WRITING(sendfile64, (int file, int from, off64_t *at, size_t size),
        REAL(sendfile64)(file, from, at, size / 2), REAL(sendfile64)(file, from, at, size))
WRITING(copy_file_range, (int from, off64_t *start, int file, off64_t *at, size_t size, unsigned flags),
        REAL(copy_file_range)(from, start, file, at, size / 2, flags),
        REAL(copy_file_range)(from, start, file, at, size, flags))

int rename(const char *from, const char *to)
{
    char full[PATH_MAX], other[PATH_MAX];
    STEP(int, "rename", named(AT_FDCWD, from, full), named(AT_FDCWD, to, other), FREES, REAL(rename)(from, to));
}

int renameat(int folder, const char *from, int into, const char *to)
{
    char full[PATH_MAX], other[PATH_MAX];
    STEP(int, "rename", named(folder, from, full), named(into, to, other), FREES,
         REAL(renameat)(folder, from, into, to));
}

int renameat2(int folder, const char *from, int into, const char *to, unsigned flags)
{
    char full[PATH_MAX], other[PATH_MAX];
    STEP(int, "rename", named(folder, from, full), named(into, to, other), FREES,
         REAL(renameat2)(folder, from, into, to, flags));
}

int link(const char *from, const char *to)
{
    char full[PATH_MAX], other[PATH_MAX];
    STEP(int, "link", named(AT_FDCWD, from, full), named(AT_FDCWD, to, other), GROWS, REAL(link)(from, to));
}

int linkat(int folder, const char *from, int into, const char *to, int flags)
{
    char full[PATH_MAX], other[PATH_MAX];
    STEP(int, "link", named(folder, from, full), named(into, to, other), GROWS,
         REAL(linkat)(folder, from, into, to, flags));
}

int symlink(const char *from, const char *to)
{
    char other[PATH_MAX];
    STEP(int, "link", "", named(AT_FDCWD, to, other), GROWS, REAL(symlink)(from, to));
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    STEP(int, "unlink", named(AT_FDCWD, path, full), "", FREES, REAL(unlink)(path));
}

int unlinkat(int folder, const char *path, int flags)
{
    char full[PATH_MAX];
    STEP(int, "unlink", named(folder, path, full), "", FREES, REAL(unlinkat)(folder, path, flags));
}

int rmdir(const char *path)
{
    char full[PATH_MAX];
    STEP(int, "rmdir", named(AT_FDCWD, path, full), "", FREES, REAL(rmdir)(path));
}

int mkdir(const char *path, mode_t rights)
{
    char full[PATH_MAX];
    STEP(int, "mkdir", named(AT_FDCWD, path, full), "", GROWS, REAL(mkdir)(path, rights));
}

int mkdirat(int folder, const char *path, mode_t rights)
{
    char full[PATH_MAX];
    STEP(int, "mkdir", named(folder, path, full), "", GROWS, REAL(mkdirat)(folder, path, rights));
}

int fsync(int file)
{
    char full[PATH_MAX];
    STEP(int, "fsync", opened(file, full), "", FREES, REAL(fsync)(file));
}

int fdatasync(int file)
{
    char full[PATH_MAX];
    STEP(int, "fsync", opened(file, full), "", FREES, REAL(fdatasync)(file));
}

int syncfs(int file)
{
    char full[PATH_MAX];
    STEP(int, "syncfs", opened(file, full), "", FREES, REAL(syncfs)(file));
}

int ftruncate(int file, off_t size)
{
    char full[PATH_MAX];
    STEP(int, "truncate", opened(file, full), "", GROWS, REAL(ftruncate)(file, size));
}

int ftruncate64(int file, off64_t size)
{
    char full[PATH_MAX];
    STEP(int, "truncate", opened(file, full), "", GROWS, REAL(ftruncate64)(file, size));
}

int truncate(const char *path, off_t size)
{
    char full[PATH_MAX];
    STEP(int, "truncate", named(AT_FDCWD, path, full), "", GROWS, REAL(truncate)(path, size));
}

int fallocate(int file, int kind, off_t at, off_t size)
{
    char full[PATH_MAX];
    STEP(int, "truncate", opened(file, full), "", GROWS, REAL(fallocate)(file, kind, at, size));
}

int fallocate64(int file, int kind, off64_t at, off64_t size)
{
    char full[PATH_MAX];
    STEP(int, "truncate", opened(file, full), "", GROWS, REAL(fallocate64)(file, kind, at, size));
}

int utimensat(int folder, const char *path, const struct timespec times[2], int flags)
{
    char full[PATH_MAX];
    STEP(int, "utimes", named(folder, path, full), "", FREES, REAL(utimensat)(folder, path, times, flags));
}

int futimens(int file, const struct timespec times[2])
{
    char full[PATH_MAX];
    STEP(int, "utimes", opened(file, full), "", FREES, REAL(futimens)(file, times));
}
