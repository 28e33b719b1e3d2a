#include "glue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef wasm_trap_t *(*unchecked_callback_t)(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t n);
typedef wasmtime_error_t *(*epoch_callback_t)(wasmtime_context_t *ctx, void *data, uint64_t *delta, uint8_t *kind);

extern void wasmtime_engine_increment_epoch(wasm_engine_t *);
extern wasm_valtype_t *wasm_valtype_new(uint8_t kind);
extern void wasm_valtype_vec_new_uninitialized(wasm_valtype_vec_t *, size_t);
extern wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *, wasm_valtype_vec_t *);
extern void wasm_functype_delete(wasm_functype_t *);
extern void wasm_byte_vec_delete(wasm_byte_vec_t *);
extern void wasm_trap_message(const wasm_trap_t *, wasm_byte_vec_t *);
extern void wasm_trap_delete(wasm_trap_t *);
extern bool wasmtime_trap_code(const wasm_trap_t *, uint8_t *);
extern wasm_trap_t *wasmtime_trap_new(const char *, size_t);
extern wasmtime_error_t *wasmtime_error_new(const char *);
extern void wasmtime_error_message(const wasmtime_error_t *, wasm_byte_vec_t *);
extern void wasmtime_error_delete(wasmtime_error_t *);
extern wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *);
extern void wasmtime_linker_delete(wasmtime_linker_t *);
extern wasmtime_error_t *wasmtime_linker_define_func_unchecked(wasmtime_linker_t *, const char *, size_t, const char *,
    size_t, const wasm_functype_t *, unchecked_callback_t, void *, void (*)(void *));
extern wasmtime_error_t *wasmtime_linker_instantiate_pre(const wasmtime_linker_t *, const wasmtime_module_t *,
    wasmtime_instance_pre_t **);
extern void wasmtime_instance_pre_delete(wasmtime_instance_pre_t *);
extern wasmtime_error_t *wasmtime_instance_pre_instantiate(const wasmtime_instance_pre_t *, wasmtime_context_t *,
    wasmtime_instance_t *, wasm_trap_t **);
extern bool wasmtime_instance_export_get(wasmtime_context_t *, const wasmtime_instance_t *, const char *, size_t,
    wasmtime_extern_t *);
extern wasmtime_store_t *wasmtime_store_new(wasm_engine_t *, void *, void (*)(void *));
extern void wasmtime_store_delete(wasmtime_store_t *);
extern wasmtime_context_t *wasmtime_store_context(wasmtime_store_t *);
extern void wasmtime_store_limiter(wasmtime_store_t *, int64_t, int64_t, int64_t, int64_t, int64_t);
extern void wasmtime_store_epoch_deadline_callback(wasmtime_store_t *, epoch_callback_t, void *, void (*)(void *));
extern void wasmtime_context_set_epoch_deadline(wasmtime_context_t *, uint64_t);
extern void *wasmtime_context_get_data(const wasmtime_context_t *);
extern wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *);
extern bool wasmtime_caller_export_get(wasmtime_caller_t *, const char *, size_t, wasmtime_extern_t *);
extern wasmtime_error_t *wasmtime_func_call_unchecked(wasmtime_context_t *, const wasmtime_func_t *,
    wasmtime_val_raw_t *, size_t, wasm_trap_t **);
extern uint8_t *wasmtime_memory_data(const wasmtime_context_t *, const wasmtime_memory_t *);
extern size_t wasmtime_memory_data_size(const wasmtime_context_t *, const wasmtime_memory_t *);
extern void wasmtime_global_get(wasmtime_context_t *, const wasmtime_global_t *, wasmtime_val_t *);

// In Go: runs an import; 0 = done, 1 = trap.
extern int mrImport(uintptr_t handle, uintptr_t import, wasmtime_val_raw_t *raw);

enum { KIND_I32 = 0, KIND_I64 = 1, EXTERN_FUNC = 0, EXTERN_GLOBAL = 1, EXTERN_MEMORY = 3 };
enum { TABLE_ELEMENTS_MAX = 1 << 20 };  // 8 MiB of pointers; a Go guest has some 10,000

static int64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static char *copy_text(wasm_byte_vec_t *vec) {
  size_t n = vec->size;
  while (n > 0 && vec->data[n - 1] == 0) n--;
  char *text = malloc(n + 1);
  memcpy(text, vec->data, n);
  text[n] = 0;
  wasm_byte_vec_delete(vec);
  return text;
}

static char *take_error(wasmtime_error_t *error) {
  if (error == NULL) return NULL;
  wasm_byte_vec_t vec;
  wasmtime_error_message(error, &vec);
  wasmtime_error_delete(error);
  return copy_text(&vec);
}

void mr_tick(wasm_engine_t *engine) { wasmtime_engine_increment_epoch(engine); }

wasmtime_linker_t *mr_linker_new(wasm_engine_t *engine) { return wasmtime_linker_new(engine); }
void mr_linker_delete(wasmtime_linker_t *linker) { wasmtime_linker_delete(linker); }
void mr_pre_delete(wasmtime_instance_pre_t *pre) { wasmtime_instance_pre_delete(pre); }

static void resolve_memory(mr_guest *g, wasmtime_caller_t *caller) {
  wasmtime_extern_t item;
  if (wasmtime_caller_export_get(caller, "memory", 6, &item) && item.kind == EXTERN_MEMORY) {
    g->memory = item.of.memory;
    g->has_memory = true;
  }
}

static wasm_trap_t *import_trampoline(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t n) {
  (void)n;
  mr_guest *g = wasmtime_context_get_data(wasmtime_caller_context(caller));
  if (!g->has_memory) resolve_memory(g, caller);
  mr_touch(g);
  if (mrImport(g->handle, (uintptr_t)env, raw) == 0) return NULL;
  return wasmtime_trap_new("ended by the host", 17);
}

static wasm_trap_t *nosys_trampoline(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t n) {
  (void)env, (void)caller, (void)n;
  raw[0].i64 = 0;
  raw[0].i32 = 52;  // ENOSYS
  return NULL;
}

static void types(wasm_valtype_vec_t *vec, const uint8_t *kinds, size_t n) {
  wasm_valtype_vec_new_uninitialized(vec, n);
  for (size_t i = 0; i < n; i++) vec->data[i] = wasm_valtype_new(kinds[i]);
}

char *mr_linker_define(wasmtime_linker_t *linker, const char *module, size_t module_len, const char *name,
                       size_t name_len, const uint8_t *params, size_t nparams, const uint8_t *results,
                       size_t nresults, uintptr_t import) {
  wasm_valtype_vec_t p, r;
  types(&p, params, nparams);
  types(&r, results, nresults);
  wasm_functype_t *type = wasm_functype_new(&p, &r);
  wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(linker, module, module_len, name, name_len, type,
      import == 0 ? nosys_trampoline : import_trampoline, (void *)import, NULL);
  wasm_functype_delete(type);
  return take_error(error);
}

char *mr_linker_pre(wasmtime_linker_t *linker, wasmtime_module_t *module, wasmtime_instance_pre_t **pre) {
  return take_error(wasmtime_linker_instantiate_pre(linker, module, pre));
}

// The epoch ends here once a tick while the guest runs; whether its time is up
// is judged by clocks, so that a busy machine does not fail an honest guest.
static wasmtime_error_t *epoch_ended(wasmtime_context_t *ctx, void *data, uint64_t *delta, uint8_t *kind) {
  (void)ctx;
  mr_guest *g = data;
  *delta = 1;
  *kind = 0;
  if (g->cpu_max > 0 && now(CLOCK_THREAD_CPUTIME_ID) - g->cpu_begin > g->cpu_max) g->expired = EXPIRED_CPU;
  else if (g->wall_end > 0 && now(CLOCK_MONOTONIC) > g->wall_end) g->expired = EXPIRED_WALL;
  return g->expired ? wasmtime_error_new("deadline exceeded") : NULL;
}

mr_guest *mr_guest_new(wasm_engine_t *engine, uintptr_t handle, int64_t memory_max) {
  mr_guest *g = calloc(1, sizeof *g);
  g->handle = handle;
  g->trap_code = -1;
  g->store = wasmtime_store_new(engine, g, NULL);
  g->ctx = wasmtime_store_context(g->store);
  wasmtime_store_limiter(g->store, memory_max, TABLE_ELEMENTS_MAX, 1, 8, 1);
  wasmtime_store_epoch_deadline_callback(g->store, epoch_ended, g, NULL);
  return g;
}

int64_t mr_monotonic(void) { return now(CLOCK_MONOTONIC); }

void mr_arm(mr_guest *g) {
  g->expired = EXPIRED_NOT;
  g->cpu_begin = now(CLOCK_THREAD_CPUTIME_ID);
  wasmtime_context_set_epoch_deadline(g->ctx, 1);
}

void mr_lap(mr_guest *g) {
  int64_t at = now(CLOCK_THREAD_CPUTIME_ID);
  g->cpu_spent += at - g->cpu_begin;
  g->cpu_begin = at;
}

void mr_touch(mr_guest *g) {
  g->data = g->has_memory ? wasmtime_memory_data(g->ctx, &g->memory) : NULL;
  g->size = g->has_memory ? wasmtime_memory_data_size(g->ctx, &g->memory) : 0;
}

static int settle(mr_guest *g, wasmtime_error_t *error, wasm_trap_t *trap) {
  mr_lap(g);
  mr_touch(g);
  if (error == NULL && trap == NULL) return 0;
  free(g->error);
  g->trap_code = -1;
  if (error != NULL) {
    g->error = take_error(error);
    return -1;
  }
  uint8_t code;
  if (wasmtime_trap_code(trap, &code)) g->trap_code = code;
  wasm_byte_vec_t vec;
  wasm_trap_message(trap, &vec);
  wasm_trap_delete(trap);
  g->error = copy_text(&vec);
  return -1;
}

int mr_guest_instantiate(mr_guest *g, wasmtime_instance_pre_t *pre) {
  wasm_trap_t *trap = NULL;
  mr_arm(g);
  wasmtime_error_t *error = wasmtime_instance_pre_instantiate(pre, g->ctx, &g->instance, &trap);
  if (error == NULL && trap == NULL) {
    wasmtime_extern_t item;
    if (wasmtime_instance_export_get(g->ctx, &g->instance, "memory", 6, &item) && item.kind == EXTERN_MEMORY) {
      g->memory = item.of.memory;
      g->has_memory = true;
    }
  }
  return settle(g, error, trap);
}

void mr_guest_delete(mr_guest *g) {
  wasmtime_store_delete(g->store);
  free(g->error);
  free(g);
}

bool mr_guest_func(mr_guest *g, const char *name, size_t len, int slot) {
  wasmtime_extern_t item;
  if (!wasmtime_instance_export_get(g->ctx, &g->instance, name, len, &item) || item.kind != EXTERN_FUNC) return false;
  g->funcs[slot] = item.of.func;
  return true;
}

bool mr_guest_global(mr_guest *g, const char *name, size_t len, uint8_t *kind, int64_t *value) {
  wasmtime_extern_t item;
  if (!wasmtime_instance_export_get(g->ctx, &g->instance, name, len, &item) || item.kind != EXTERN_GLOBAL) return false;
  wasmtime_val_t v;
  wasmtime_global_get(g->ctx, &item.of.global, &v);
  *kind = v.kind;
  *value = v.kind == KIND_I32 ? v.of.i32 : v.of.i64;
  return v.kind == KIND_I32 || v.kind == KIND_I64;
}

int mr_call(mr_guest *g, int slot) {
  wasm_trap_t *trap = NULL;
  mr_arm(g);
  wasmtime_error_t *error = wasmtime_func_call_unchecked(g->ctx, &g->funcs[slot], g->raw, sizeof g->raw / sizeof g->raw[0], &trap);
  return settle(g, error, trap);
}
