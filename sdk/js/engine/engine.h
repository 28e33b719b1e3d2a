// The JavaScript engine of Millrace: a guest of the ABI "millrace 1" (docs/ABI.md) around QuickJS-ng.
//
//   engine.c   exports, life of the runtime, one batch
//   frame.c    the input frame's checks, the output buffer
//   record.c   the classes Record and Bytes
//   result.c   what a script returned -> entries
//   host.c     log, environment, time, random numbers, text
//   prelude.js the rest of what a script sees, in JavaScript
//
// All state is in `engine`: an instance runs one call at a time. Nothing of an input frame is copied before a script asks for it.
#ifndef MILLRACE_ENGINE_H
#define MILLRACE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quickjs.h"

#define EXPORT(name) __attribute__((export_name(name)))

enum {
    INPUT_MAGIC = 0x3149524D,
    OUTPUT_MAGIC = 0x314F524D,
    INPUT_HEADER_BYTES = 40,
    RECORD_FIXED_BYTES = 32,
    OUTPUT_HEADER_BYTES = 16,
    ENTRY_PASS_BYTES = 16,
    ENTRY_FIXED_BYTES = 32,
    HEADER_FIXED_BYTES = 8,
    FLAG_PASS = 1,
    NAMES_MAX = 256,          // declared inputs or outputs
    INPUT_SLACK_BYTES = 16,   // behind the frame: the JSON parser wants a zero after its text, vectors read 16 bytes
    ERROR_TEXT_BYTES_MAX = 16 << 10,
    STACK_RESERVE_BYTES = 128 << 10, // of the C stack of 256 KiB, for what runs below the last check; ABI.md section 8 has the host's part
};

// Span is bytes somewhere in memory; length -1 is null. An untouched span is the source record's own.
typedef struct {
    const uint8_t *at;
    int32_t length;
} Span;

// Bytes is the script's handle on a key or value. It is good for one record: `turn` must be the engine's.
typedef struct {
    JSValue object;
    uint64_t turn;
    Span span;
} Bytes;

typedef struct Block Block; // of memory that lives to the end of the record
struct Block {
    Block *next;
    uint8_t bytes[];
};

// Record is the script's handle on the source record of the current turn.
typedef struct {
    JSValue object; // owned; JS_UNDEFINED when the script kept the last one
    uint64_t turn;
    Bytes *key, *value; // handles that are used again, or NULL
    JSValue headers;    // the script's Headers, or JS_UNDEFINED
    bool key_set, value_set;
    Span key_span, value_span;
} Record;

typedef struct {
    JSRuntime *rt;
    JSContext *ctx;
    JSValue transform; // the script's function
    JSValue context;   // its second argument
    JSValue headers_of_record; // prelude: (pairs) => Headers
    const char *load_error;
    bool in_snapshot;

    uint8_t *input; // buffer of millrace_alloc
    size_t input_capacity;
    uint8_t *output; // frame under construction
    size_t output_size, output_capacity;
    uint32_t entries;
    uint8_t *error;
    size_t error_size;

    // The current batch and record.
    uint16_t topic;
    int32_t partition;
    uint64_t seed;
    const uint8_t *fixed; // fixed part of the current record, NULL outside of a turn
    uint32_t source;
    uint64_t turn;
    double now; // ms; the record's timestamp
    Record *record;
    Block *blocks;

    bool random_ready;
    uint64_t random_state;

    JSAtom atom_key, atom_value, atom_headers, atom_output, atom_partition, atom_default, atom_list, atom_changed;
} Engine;

extern Engine engine;

static inline uint16_t read_u16(const uint8_t *p) { uint16_t v; __builtin_memcpy(&v, p, 2); return v; }
static inline uint32_t read_u32(const uint8_t *p) { uint32_t v; __builtin_memcpy(&v, p, 4); return v; }
static inline int32_t read_i32(const uint8_t *p) { return (int32_t)read_u32(p); }
static inline uint64_t read_u64(const uint8_t *p) { uint64_t v; __builtin_memcpy(&v, p, 8); return v; }
static inline void write_u16(uint8_t *p, uint16_t v) { __builtin_memcpy(p, &v, 2); }
static inline void write_u32(uint8_t *p, uint32_t v) { __builtin_memcpy(p, &v, 4); }

// frame.c
const char *frame_check(const uint8_t *frame, uint32_t length);
static inline Span record_key(const uint8_t *fixed) { return (Span){fixed + RECORD_FIXED_BYTES, read_i32(fixed + 24)}; }
static inline Span record_value(const uint8_t *fixed) {
    int32_t key = read_i32(fixed + 24);
    return (Span){fixed + RECORD_FIXED_BYTES + (key > 0 ? key : 0), read_i32(fixed + 28)};
}
static inline const uint8_t *record_headers(const uint8_t *fixed) {
    Span value = record_value(fixed);
    return value.at + (value.length > 0 ? value.length : 0);
}
bool output_begin(void);
uint32_t output_finish(void);
uint8_t *output_grow(size_t bytes); // at the end; NULL = out of memory
bool output_pass(uint16_t output, int32_t partition);

// record.c
int record_init(JSContext *ctx);
JSValue record_handle(JSContext *ctx); // borrowed: of the current turn
void record_release(JSContext *ctx);   // at the end of the turn
Record *record_of(JSValueConst v);     // NULL = not a record of this turn
bool bytes_is(JSValueConst v);
int bytes_span(JSContext *ctx, JSValueConst v, Span *span);
JSValue span_text(JSContext *ctx, Span span);

// result.c
// Piece is a value on its way out; `text`, or what unit_json printed, is freed by piece_free.
typedef struct {
    Span span;
    const char *text;
    bool printed;
} Piece;
int piece_of(JSContext *ctx, JSValueConst v, Piece *piece, const char *what);
void piece_free(JSContext *ctx, Piece *piece);
int result_write(JSContext *ctx, JSValueConst v);

// host.c
int host_init(JSContext *ctx, JSValue host);
void host_log(int32_t level, const char *text, size_t length);
const char *host_env(const char *name); // NULL = not set
int host_output_index(JSContext *ctx, JSValueConst name);
JSValue host_input_name(JSContext *ctx, uint16_t topic);
void host_random_begin(void);

// quickjs_unit.c
int unit_ref_count(JSValueConst object);
const uint8_t *unit_json(JSContext *ctx, JSValueConst v, size_t *size);
void unit_json_free(void);
void unit_stack_limit(JSRuntime *rt, uint32_t address);

#endif
