// Our own prototypes of the few functions of wasmtime's C API that the hot path
// needs, and the glue around them. The archive that implements them is the one
// that wasmtime-go links. Layouts are those of wasmtime 39.
#ifndef MILLRACE_HOST_GLUE_H
#define MILLRACE_HOST_GLUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_instance_pre wasmtime_instance_pre_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_store wasmtime_store_t;

typedef struct { size_t size; char *data; } wasm_byte_vec_t;
typedef struct { size_t size; wasm_valtype_t **data; } wasm_valtype_vec_t;
typedef struct { uint64_t store_id; void *p; } wasmtime_func_t;
typedef struct { struct { uint64_t store_id; uint32_t p1; }; uint32_t p2; } wasmtime_memory_t;
typedef struct { uint64_t store_id; uint32_t p1, p2, p3; } wasmtime_global_t;
typedef struct { uint64_t store_id; size_t p; } wasmtime_instance_t;
typedef struct {
  uint8_t kind;
  union { wasmtime_func_t func; wasmtime_memory_t memory; wasmtime_global_t global; } of;
} wasmtime_extern_t;
typedef struct {
  uint8_t kind;
  union { int32_t i32; int64_t i64; uint8_t v128[16]; void *p[2]; } of;
} wasmtime_val_t;
typedef union { int32_t i32; int64_t i64; uint64_t v128[2]; } wasmtime_val_raw_t;

// mr_guest is one instance. It belongs to one goroutine.
typedef struct mr_guest {
  wasmtime_store_t *store;
  wasmtime_context_t *ctx;
  wasmtime_instance_t instance;
  wasmtime_memory_t memory;
  bool has_memory;
  wasmtime_func_t funcs[4];   // SLOT_*
  uintptr_t handle;           // of the Go side, given to imports
  wasmtime_val_raw_t raw[4];  // arguments and results of mr_call
  uint8_t *data;              // the memory, after mr_call, mr_touch and before an import
  size_t size;
  int64_t cpu_max;            // ns of this thread's time that a call may take, 0 = any
  int64_t wall_end;           // ns of CLOCK_MONOTONIC, 0 = none
  int64_t cpu_begin;
  int64_t cpu_spent;          // ns, by all calls so far
  int expired;                // EXPIRED_*
  int trap_code;              // of the last failed call, -1 = none
  char *error;                // text of the last failed call, freed by the next
} mr_guest;

// Where the functions that are called again are kept; SLOT_ONCE is for the others.
enum { SLOT_ALLOC = 0, SLOT_PROCESS = 1, SLOT_ERROR = 2, SLOT_ONCE = 3 };
enum { EXPIRED_NOT = 0, EXPIRED_CPU = 1, EXPIRED_WALL = 2 };

void mr_tick(wasm_engine_t *engine);

wasmtime_linker_t *mr_linker_new(wasm_engine_t *engine);
void mr_linker_delete(wasmtime_linker_t *linker);
// params and results: one byte each, 0 = i32, 1 = i64.
char *mr_linker_define(wasmtime_linker_t *linker, const char *module, size_t module_len, const char *name,
                       size_t name_len, const uint8_t *params, size_t nparams, const uint8_t *results,
                       size_t nresults, uintptr_t import);
char *mr_linker_pre(wasmtime_linker_t *linker, wasmtime_module_t *module, wasmtime_instance_pre_t **pre);
void mr_pre_delete(wasmtime_instance_pre_t *pre);

mr_guest *mr_guest_new(wasm_engine_t *engine, uintptr_t handle, int64_t memory_max);
int mr_guest_instantiate(mr_guest *g, wasmtime_instance_pre_t *pre);
void mr_guest_delete(mr_guest *g);
// Returns false when there is no such function.
bool mr_guest_func(mr_guest *g, const char *name, size_t len, int slot);
// Returns false when there is no such global of type i32 or i64.
bool mr_guest_global(mr_guest *g, const char *name, size_t len, uint8_t *kind, int64_t *value);
// Returns 0, or -1 with error, trap_code and expired set.
int mr_call(mr_guest *g, int slot);
int64_t mr_monotonic(void);
void mr_arm(mr_guest *g);
void mr_lap(mr_guest *g);
void mr_touch(mr_guest *g);

#endif
