/* Lets linux.uml 6.1 run on processors with AMX; built and preloaded by full_kernel_boot.py where it is needed.
 *
 * The kernel saves and restores a process's extended registers with ptrace, in a buffer of 2696 bytes: room for AVX-512.
 * The host refuses to set less than the whole register set (EFAULT), which with AMX is some 11,000 bytes, so init dies at
 * its first instruction. Here a reader gets the front part, as from the host itself; a writer's part is laid over the
 * whole set as it stands. The rest are AMX's tiles, which nothing inside can use: the kernel inside grants no permission.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define NT_X86_XSTATE 0x202

typedef long (*ptrace_function)(int request, ...);

/* One is enough: linux.uml has one processor and does not switch tasks in the middle of a call. */
static char whole[1 << 16] __attribute__((aligned(64)));

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function original;
    if (!original) original = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
    va_list arguments;
    va_start(arguments, request);
    int process = va_arg(arguments, int);
    void *where = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    int get = request == PTRACE_GETREGSET, set = request == PTRACE_SETREGSET;
    if (!(get || set) || (uintptr_t)where != NT_X86_XSTATE) return original(request, process, where, data);
    struct iovec *part = data, all = {whole, sizeof whole};
    long failed = original(PTRACE_GETREGSET, process, where, &all);
    if (failed) return failed;
    size_t size = smaller(part->iov_len, all.iov_len);
    if (get) {
        memcpy(part->iov_base, whole, size);
        part->iov_len = size;
        return 0;
    }
    memcpy(whole, part->iov_base, size);
    return original(PTRACE_SETREGSET, process, where, &all);
}
