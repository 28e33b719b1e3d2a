// The exports, the life of the runtime, one batch.
#include "engine.h"

#include <stdlib.h>
#include <string.h>

Engine engine = {.transform = JS_UNDEFINED, .context = JS_UNDEFINED, .headers_of_record = JS_UNDEFINED};

static const char prelude[] = {
#embed "prelude.gen.js"
    , 0};


// --- errors ---

static uint64_t range(const void *at, size_t length) { return (uint64_t)(uintptr_t)at << 32 | (uint32_t)length; }

// fail fills the error frame and answers millrace_process's -1.
static int64_t fail(int32_t source, const char *text, size_t length) {
    if (length > ERROR_TEXT_BYTES_MAX) length = ERROR_TEXT_BYTES_MAX;
    uint8_t *grown = realloc(engine.error, 4 + length);
    if (!grown) { // the old frame, if any, is of another error
        engine.error_size = 0;
        return -1;
    }
    engine.error = grown;
    engine.error_size = 4 + length;
    write_u32(grown, (uint32_t)source);
    memcpy(grown + 4, text, length);
    return -1;
}

static int64_t fail_text(int32_t source, const char *text) { return fail(source, text, strlen(text)); }

// fail_exception takes the pending exception: message and, if it has one, its stack.
static int64_t fail_exception(JSContext *ctx, int32_t source) {
    JSValue e = JS_GetException(ctx);
    size_t length = 0, stack_length = 0;
    const char *text = JS_ToCStringLen(ctx, &length, e), *stack = NULL;
    if (!text) JS_FreeValue(ctx, JS_GetException(ctx));
    JSValue trace = JS_IsError(e) ? JS_GetPropertyStr(ctx, e, "stack") : JS_UNDEFINED;
    if (JS_IsString(trace)) stack = JS_ToCStringLen(ctx, &stack_length, trace);
    char *both = malloc(length + stack_length + 2);
    if (!text || !both) {
        fail_text(source, "the script threw, and left no memory to say what");
    } else {
        memcpy(both, text, length);
        size_t size = length;
        if (stack && stack_length) {
            both[size++] = '\n';
            memcpy(both + size, stack, stack_length);
            size += stack_length;
            while (size && both[size - 1] == '\n') size--;
        }
        fail(source, both, size);
    }
    free(both);
    if (stack) JS_FreeCString(ctx, stack);
    if (text) JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, trace);
    JS_FreeValue(ctx, e);
    return -1;
}

// --- life ---

static int runtime_prelude(JSContext *ctx) {
    JSValue host = JS_NewObject(ctx);
    if (JS_IsException(host) || host_init(ctx, host)) return -1;
    JSValue install = JS_Eval(ctx, prelude, sizeof prelude - 1, "millrace:prelude", JS_EVAL_TYPE_GLOBAL);
    if (JS_IsException(install)) return -1;
    JSValue made = JS_Call(ctx, install, JS_UNDEFINED, 1, &host);
    JS_FreeValue(ctx, install);
    JS_FreeValue(ctx, host);
    if (JS_IsException(made)) return -1;
    engine.context = JS_GetPropertyStr(ctx, made, "context");
    engine.headers_of_record = JS_GetPropertyStr(ctx, made, "headersOf");
    JS_FreeValue(ctx, made);
    return JS_IsObject(engine.context) && JS_IsFunction(ctx, engine.headers_of_record) ? 0 : -1;
}

static int runtime_begin(void) {
    if (engine.ctx) return 0;
    engine.rt = JS_NewRuntime();
    if (!engine.rt) return -1;
    JSContext *ctx = JS_NewContext(engine.rt);
    if (!ctx) return -1;
    engine.ctx = ctx;
    // The C stack lies below all data (--stack-first), so it begins at address 0.
    unit_stack_limit(engine.rt, STACK_RESERVE_BYTES);
    engine.turn = 1;
    engine.atom_key = JS_NewAtom(ctx, "key");
    engine.atom_value = JS_NewAtom(ctx, "value");
    engine.atom_headers = JS_NewAtom(ctx, "headers");
    engine.atom_output = JS_NewAtom(ctx, "output");
    engine.atom_partition = JS_NewAtom(ctx, "partition");
    engine.atom_default = JS_NewAtom(ctx, "default");
    engine.atom_list = JS_NewAtom(ctx, "list");
    engine.atom_changed = JS_NewAtom(ctx, "changed");
    return record_init(ctx) || runtime_prelude(ctx);
}

static void run_jobs(JSContext *ctx) {
    JSContext *of;
    int ran;
    while ((ran = JS_ExecutePendingJob(engine.rt, &of)) != 0) {
        if (ran > 0) continue;
        JSValue e = JS_GetException(ctx);
        size_t length;
        const char *text = JS_ToCStringLen(ctx, &length, e);
        if (text) host_log(3, text, length);
        JS_FreeCString(ctx, text);
        JS_FreeValue(ctx, e);
    }
}

// script_main finds the transform: registered, the default export, or what a CommonJS file exports.
static int script_main(JSContext *ctx) {
    if (!JS_IsUndefined(engine.transform)) return 0;
    JSValue global = JS_GetGlobalObject(ctx), main = JS_GetPropertyStr(ctx, global, "__millrace_main");
    JS_FreeValue(ctx, global);
    for (int depth = 0; depth < 2 && JS_IsObject(main) && !JS_IsFunction(ctx, main); depth++) {
        JSValue inner = JS_GetProperty(ctx, main, engine.atom_default);
        JS_FreeValue(ctx, main);
        main = inner;
    }
    if (JS_IsException(main)) return -1;
    if (!JS_IsFunction(ctx, main)) {
        JS_FreeValue(ctx, main);
        JS_ThrowTypeError(ctx, "the script exports no transform: write `export default function (record) { ... }`");
        return -1;
    }
    engine.transform = main;
    return 0;
}

static int32_t script_load(const uint8_t *code, uint32_t length) {
    if (runtime_begin()) {
        if (engine.ctx && JS_HasException(engine.ctx)) fail_exception(engine.ctx, -1);
        else fail_text(-1, "the engine did not start: no memory");
        return -1;
    }
    JSContext *ctx = engine.ctx;
    if (!JS_IsUndefined(engine.transform)) {
        fail_text(-1, "a script is loaded already");
        return -1;
    }
    char *text = malloc((size_t)length + 1); // the parser wants a zero behind its text
    if (!text) {
        fail_text(-1, "no memory for the script");
        return -1;
    }
    memcpy(text, code, length);
    text[length] = 0;
    JSValue v = JS_Eval(ctx, text, length, "main.js", JS_EVAL_TYPE_GLOBAL);
    free(text);
    int failed = JS_IsException(v);
    JS_FreeValue(ctx, v);
    if (!failed) run_jobs(ctx);
    if (failed || script_main(ctx)) {
        fail_exception(ctx, -1);
        return -1;
    }
    host_random_begin();
    return 0;
}

// --- exports ---

EXPORT("millrace_abi") int32_t export_abi(void) { return 1; }

EXPORT("millrace_alloc") void *export_alloc(uint32_t size) {
    size_t want = ((size_t)size + INPUT_SLACK_BYTES + 7) & ~(size_t)7;
    if (want > engine.input_capacity) {
        free(engine.input);
        engine.input = malloc(want); // 16-aligned by dlmalloc
        engine.input_capacity = engine.input ? want : 0;
    }
    return engine.input;
}

EXPORT("millrace_error") int64_t export_error(void) { return (int64_t)range(engine.error, engine.error_size); }

EXPORT("millrace_load") int32_t export_load(const uint8_t *code, uint32_t length) { return script_load(code, length); }

// The memory of a snapshot is the module's data: what is left over from loading is dropped first.
EXPORT("millrace_snapshot") int32_t export_snapshot(const uint8_t *code, uint32_t length) {
    engine.in_snapshot = true;
    int32_t loaded = script_load(code, length);
    engine.in_snapshot = false;
    if (loaded) return loaded;
    JS_RunGC(engine.rt);
    memset(engine.input, 0, engine.input_capacity);
    free(engine.input);
    engine.input = NULL;
    engine.input_capacity = 0;
    return 0;
}

// turn runs the script on one record. The engine's clock and random numbers are that record's.
static int turn(JSContext *ctx, const uint8_t *fixed) {
    engine.fixed = fixed;
    engine.now = (double)(int64_t)read_u64(fixed + 16);
    host_random_begin();
    JSValue argv[2] = {record_handle(ctx), engine.context};
    int failed = JS_IsException(argv[0]);
    if (!failed) {
        JSValue result = JS_Call(ctx, engine.transform, JS_UNDEFINED, 2, argv);
        failed = JS_IsException(result) || result_write(ctx, result);
        JS_FreeValue(ctx, result);
    }
    record_release(ctx);
    return failed;
}

EXPORT("millrace_process") int64_t export_process(const uint8_t *frame, uint32_t length) {
    JSContext *ctx = engine.ctx;
    if (!ctx || JS_IsUndefined(engine.transform)) return fail_text(-1, "no script is loaded");
    const char *error = frame_check(frame, length);
    if (error) return fail_text(-1, error);
    if (!output_begin()) return fail_text(-1, "no memory for the output");
    engine.topic = read_u16(frame + 6);
    engine.partition = read_i32(frame + 8);
    engine.seed = read_u64(frame + 24);
    uint32_t count = read_u32(frame + 12);
    const uint8_t *fixed = frame + INPUT_HEADER_BYTES;
    int64_t answer = 0;
    for (engine.source = 0; engine.source < count; engine.source++, fixed += read_u32(fixed)) {
        if (turn(ctx, fixed)) {
            answer = fail_exception(ctx, (int32_t)engine.source);
            break;
        }
    }
    run_jobs(ctx);
    engine.fixed = NULL;
    if (answer) return answer;
    return (int64_t)range(engine.output, output_finish());
}
