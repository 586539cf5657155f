// A stand-in for NVIDIA's driver, for tests on machines without a GPU: as much of its interface as
// memory that goes from process to process needs, with two GPUs whose memory lies in files.
//
// It is as strict as the driver: addresses cannot be read by the CPU, everything needs a context,
// a process cannot open its own handle, and what was opened cannot be shared again. Each file is an
// allocation; one that is left over was not freed. $STAND_IN_GPU names their folder, in which `log`
// tells who did what. With $STAND_IN_GPU_UNSHARED memory cannot be shared.

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GPUS = 2, HANDLE = 64, MOST = 4096 };
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, NOT_SUPPORTED = 801 };

// Added to an address of this process: no processor takes the sum for one.
static const uint64_t FAR = 1ULL << 62;

typedef struct { char bytes[HANDLE]; } Handle;

typedef struct {
    char name[HANDLE];
    char *at;
    size_t size;
    int device;
    int own;
    int opened;  // How many times, if it is another process's.
} Memory;

static Memory known[MOST];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int contexts[16], depth;

static const char *path(char *to, const char *name) {
    const char *folder = getenv("STAND_IN_GPU");
    snprintf(to, 4096, "%s/%s", folder ? folder : "/nowhere", name);
    return to;
}

static void note(const char *what, ...) {
    char line[256], file[4096];
    int length = snprintf(line, sizeof line, "%d ", (int)getpid());
    va_list values;
    va_start(values, what);
    length += vsnprintf(line + length, sizeof line - length - 1, what, values);
    va_end(values);
    line[length++] = '\n';
    int log = open(path(file, "log"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) {
        if (write(log, line, length) != length) perror("log");
        close(log);
    }
}

static int device(void) { return depth ? contexts[depth - 1] : -1; }

static Memory *find(uint64_t address) {
    char *at = (char *)(uintptr_t)(address - FAR);
    for (int i = 0; i < MOST; i++)
        if (known[i].at && known[i].at <= at && at < known[i].at + known[i].size) return &known[i];
    return NULL;
}

static Memory *add(const char *name, size_t size, int create) {
    char file[4096];
    int opened = open(path(file, name), O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0600);
    if (opened < 0) return NULL;
    if (create && ftruncate(opened, size)) return close(opened), NULL;
    if (!create) size = lseek(opened, 0, SEEK_END);
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    close(opened);
    if (at == MAP_FAILED) return NULL;
    for (int i = 0; i < MOST; i++)
        if (!known[i].at) {
            known[i] = (Memory){.at = at, .size = size, .own = create};
            strncpy(known[i].name, name, HANDLE - 1);
            return &known[i];
        }
    return NULL;
}

static int copy(uint64_t address, size_t length, void *host, int to_host) {
    if (device() < 0) return INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    Memory *memory = find(address);
    char *at = (char *)(uintptr_t)(address - FAR);
    int fits = memory && length <= (size_t)(memory->at + memory->size - at);
    if (fits && to_host) memcpy(host, at, length);
    if (fits && !to_host) memcpy(at, host, length);
    pthread_mutex_unlock(&lock);
    note("%s %zu", to_host ? "to_host" : "to_device", length);
    return fits ? OK : INVALID_VALUE;
}

int cuInit(unsigned flags) { return getenv("STAND_IN_GPU") && !flags ? OK : NO_DEVICE; }

int cuDeviceGetCount(int *count) { return *count = GPUS, OK; }

int cuDeviceGet(int *found, int ordinal) {
    return ordinal < 0 || ordinal >= GPUS ? INVALID_DEVICE : (*found = ordinal, OK);
}

int cuGetErrorName(int status, const char **name) {
    *name = status == INVALID_VALUE     ? "CUDA_ERROR_INVALID_VALUE"
            : status == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
            : status == NOT_SUPPORTED   ? "CUDA_ERROR_NOT_SUPPORTED"
                                        : "CUDA_ERROR_UNKNOWN";
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int of) {
    return *context = (void *)(uintptr_t)(of + 1), OK;
}

int cuCtxPushCurrent_v2(void *context) {
    if (depth == 16) return INVALID_VALUE;
    return contexts[depth++] = (int)(uintptr_t)context - 1, OK;
}

int cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    return *context = (void *)(uintptr_t)(contexts[--depth] + 1), OK;
}

int cuCtxSetCurrent(void *context) {
    depth = 1;
    return contexts[0] = (int)(uintptr_t)context - 1, OK;
}

int cuCtxGetDevice(int *current) {
    return device() < 0 ? INVALID_CONTEXT : (*current = device(), OK);
}

int cuCtxSynchronize(void) { return device() < 0 ? INVALID_CONTEXT : OK; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    static int count;
    char name[HANDLE];
    if (device() < 0) return INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    snprintf(name, sizeof name, "gpu%d-%d-%d", device(), (int)getpid(), count++);
    Memory *memory = add(name, size, 1);
    if (memory) memory->device = device(), *address = (uint64_t)(uintptr_t)memory->at + FAR;
    pthread_mutex_unlock(&lock);
    if (memory) note("alloc %s", name);
    return memory ? OK : OUT_OF_MEMORY;
}

int cuMemFree_v2(uint64_t address) {
    char file[4096];
    pthread_mutex_lock(&lock);
    Memory *memory = find(address);
    if (memory && memory->own) {
        note("free %s", memory->name);
        unlink(path(file, memory->name));
        munmap(memory->at, memory->size);
        memory->at = NULL;
    } else
        memory = NULL;
    pthread_mutex_unlock(&lock);
    return memory ? OK : INVALID_VALUE;
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t length) { return copy(from, length, to, 1); }

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t length) {
    return copy(to, length, (void *)from, 0);
}

int cuMemGetAddressRange_v2(uint64_t *base, size_t *size, uint64_t address) {
    if (device() < 0) return INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    Memory *memory = find(address);
    if (memory) *base = (uint64_t)(uintptr_t)memory->at + FAR, *size = memory->size;
    pthread_mutex_unlock(&lock);
    return memory ? OK : INVALID_VALUE;
}

int cuIpcGetMemHandle(Handle *handle, uint64_t address) {
    if (getenv("STAND_IN_GPU_UNSHARED")) return NOT_SUPPORTED;
    if (device() < 0) return INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    Memory *memory = find(address);
    int shared = memory && memory->own && memory->device == device();
    if (shared) memcpy(handle->bytes, memory->name, HANDLE);
    pthread_mutex_unlock(&lock);
    return shared ? OK : INVALID_VALUE;
}

int cuIpcOpenMemHandle_v2(uint64_t *address, Handle handle, unsigned flags) {
    if (device() < 0 || flags != 1) return device() < 0 ? INVALID_CONTEXT : INVALID_VALUE;
    pthread_mutex_lock(&lock);
    Memory *memory = NULL;
    for (int i = 0; i < MOST && !memory; i++)
        if (known[i].at && !strncmp(known[i].name, handle.bytes, HANDLE)) memory = &known[i];
    int own = memory && memory->own;
    if (!memory) memory = add(handle.bytes, 0, 0);
    if (memory && !own) {
        memory->opened++;
        memory->device = handle.bytes[3] - '0';
        *address = (uint64_t)(uintptr_t)memory->at + FAR;
    }
    pthread_mutex_unlock(&lock);
    if (memory && !own) note("open %s", memory->name);
    return own ? INVALID_CONTEXT : memory ? OK : INVALID_VALUE;
}

int cuIpcCloseMemHandle(uint64_t address) {
    pthread_mutex_lock(&lock);
    Memory *memory = find(address);
    int opened = memory && memory->opened > 0;
    if (opened) {
        note("close %s", memory->name);
        if (!--memory->opened) {
            munmap(memory->at, memory->size);
            memory->at = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    return opened ? OK : INVALID_VALUE;
}
