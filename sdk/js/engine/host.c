// Log, environment, time, random numbers and text: what a script sees of the world.
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <wasi/api.h>

__attribute__((import_module("millrace"), import_name("log"))) extern void millrace_log(int32_t level, const char *text, size_t length);

void host_log(int32_t level, const char *text, size_t length) { millrace_log(level, text, length); }

// --- time: the record's timestamp, 0 while the script loads ---

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    (void)zone;
    int64_t ms = engine.now < 0 ? 0 : (int64_t)engine.now;
    tv->tv_sec = ms / 1000;
    tv->tv_usec = ms % 1000 * 1000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
    (void)clock;
    int64_t ms = engine.now < 0 ? 0 : (int64_t)engine.now;
    ts->tv_sec = ms / 1000;
    ts->tv_nsec = ms % 1000 * 1000000;
    return 0;
}

_Noreturn void abort(void) { __builtin_trap(); }

// --- no files: what the library prints when it is debugged goes nowhere, and keeps stdio and its imports out of the module ---

_Noreturn void __assert_fail(const char *expression, const char *file, int line, const char *function) { __builtin_trap(); }

int printf(const char *restrict format, ...) { return 0; }
int fprintf(FILE *restrict file, const char *restrict format, ...) { return 0; }
int putchar(int c) { return c; }
int puts(const char *text) { return 0; }
int fputc(int c, FILE *file) { return c; }
#undef stdout
FILE *const stdout = NULL;
_Alignas(8) char __stderr_FILE[512]; // vfprintf names it to complain about long double, through our fprintf
void __stdio_exit_needed(void) {}

// --- random: docs/ABI.md section 6 ---

static const uint64_t random_gamma = 0x9E3779B97F4A7C15;

static uint64_t random_mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

// host_random_begin makes the next number the first of the current record.
void host_random_begin(void) { engine.random_ready = false; }

static JSValue random_next(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    if (!engine.random_ready) {
        uint64_t offset = engine.fixed ? read_u64(engine.fixed + 8) : 0;
        engine.random_state = random_mix((engine.seed ^ offset) + random_gamma);
        engine.random_ready = true;
    }
    engine.random_state += random_gamma;
    return JS_NewFloat64(ctx, (double)(random_mix(engine.random_state) >> 11) * 0x1p-53);
}

// --- environment ---

static struct {
    bool read;
    char **vars; // "NAME=value"
    size_t count;
    char *inputs[NAMES_MAX], *outputs[NAMES_MAX];
    int input_count, output_count;
    JSValue topics[NAMES_MAX];
} env;

static const char *env_value(const char *var, const char *name) {
    size_t n = strlen(name);
    return strncmp(var, name, n) == 0 && var[n] == '=' ? var + n + 1 : NULL;
}

const char *host_env(const char *name) {
    for (size_t i = 0; i < env.count; i++) {
        const char *value = env_value(env.vars[i], name);
        if (value) return value;
    }
    return NULL;
}

static int env_names(const char *prefix, char **names) {
    int count = 0;
    for (; count < NAMES_MAX; count++) {
        char name[40], digits[8];
        int n = 0, i = count;
        do digits[n++] = (char)('0' + i % 10); while ((i /= 10));
        size_t at = strlen(prefix);
        memcpy(name, prefix, at);
        while (n) name[at++] = digits[--n];
        name[at] = 0;
        const char *value = host_env(name);
        if (!value) break;
        names[count] = (char *)value;
    }
    return count;
}

// env_load asks the host once, and not while a snapshot is taken: its environment would be frozen into the module.
static int env_load(JSContext *ctx) {
    if (env.read) return 0;
    if (engine.in_snapshot) {
        JS_ThrowTypeError(ctx, "the environment is not known while a script is packed: read it in the transform, not at the top of the file");
        return -1;
    }
    size_t count, size;
    if (__wasi_environ_sizes_get(&count, &size) == 0 && count > 0) {
        char **vars = calloc(count + 1, sizeof *vars), *text = calloc(1, size + 1);
        if (!vars || !text || __wasi_environ_get((uint8_t **)vars, (uint8_t *)text) != 0) {
            free(vars);
            free(text);
            JS_ThrowInternalError(ctx, "the host gives no environment");
            return -1;
        }
        env.vars = vars;
        env.count = count;
    }
    env.read = true;
    env.input_count = env_names("MILLRACE_INPUT_", env.inputs);
    env.output_count = env_names("MILLRACE_OUTPUT_", env.outputs);
    for (int i = 0; i < NAMES_MAX; i++) env.topics[i] = JS_UNDEFINED;
    return 0;
}

static JSValue host_environment(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    if (env_load(ctx)) return JS_EXCEPTION;
    JSValue object = JS_NewObject(ctx);
    for (size_t i = 0; i < env.count && !JS_IsException(object); i++) {
        char *equals = strchr(env.vars[i], '=');
        if (!equals) continue;
        JSAtom name = JS_NewAtomLen(ctx, env.vars[i], equals - env.vars[i]);
        if (JS_DefinePropertyValue(ctx, object, name, JS_NewString(ctx, equals + 1), JS_PROP_ENUMERABLE) < 0) {
            JS_FreeValue(ctx, object);
            object = JS_EXCEPTION;
        }
        JS_FreeAtom(ctx, name);
    }
    return object;
}

JSValue host_input_name(JSContext *ctx, uint16_t topic) {
    if (env_load(ctx)) return JS_EXCEPTION;
    if (topic >= env.input_count) return JS_NewString(ctx, "");
    if (JS_IsUndefined(env.topics[topic])) env.topics[topic] = JS_NewString(ctx, env.inputs[topic]);
    return JS_DupValue(ctx, env.topics[topic]);
}

// host_output_index finds a declared output by name or number; -1 = thrown.
int host_output_index(JSContext *ctx, JSValueConst v) {
    if (env_load(ctx)) return -1;
    if (JS_IsNumber(v)) {
        double index;
        JS_ToFloat64(ctx, &index, v);
        if (index >= 0 && index < env.output_count && index == (int)index) return (int)index;
        JS_ThrowRangeError(ctx, "output %g: the script declares %d", index, env.output_count);
        return -1;
    }
    if (!JS_IsString(v)) {
        JS_ThrowTypeError(ctx, "output must be the name of a declared output");
        return -1;
    }
    const char *name = JS_ToCString(ctx, v);
    if (!name) return -1;
    int index = env.output_count - 1;
    while (index >= 0 && strcmp(env.outputs[index], name) != 0) index--;
    if (index < 0) JS_ThrowRangeError(ctx, "the script declares no output \"%s\": add it to outputs in transform.yaml", name);
    JS_FreeCString(ctx, name);
    return index;
}

static JSValue name_list(JSContext *ctx, char **names, int count) {
    JSValue list = JS_NewArray(ctx);
    for (int i = 0; i < count && !JS_IsException(list); i++) JS_SetPropertyUint32(ctx, list, i, JS_NewString(ctx, names[i]));
    return list;
}

static JSValue host_names(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv, int outputs) {
    if (env_load(ctx)) return JS_EXCEPTION;
    return outputs ? name_list(ctx, env.outputs, env.output_count) : name_list(ctx, env.inputs, env.input_count);
}

// --- log and text ---

static JSValue host_log_line(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    int32_t level;
    size_t length;
    if (JS_ToInt32(ctx, &level, argv[0])) return JS_EXCEPTION;
    const char *text = JS_ToCStringLen(ctx, &length, argv[1]);
    if (!text) return JS_EXCEPTION;
    host_log(level, text, length);
    JS_FreeCString(ctx, text);
    return JS_UNDEFINED;
}

static JSValue host_encode(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
    if (!text) return JS_EXCEPTION;
    JSValue bytes = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)text, length);
    JS_FreeCString(ctx, text);
    return bytes;
}

static JSValue host_decode(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    Piece piece;
    if (JS_IsString(argv[0]) || piece_of(ctx, argv[0], &piece, "what is decoded")) return JS_ThrowTypeError(ctx, "not bytes");
    JSValue text = piece.span.length < 0 ? JS_NewString(ctx, "") : span_text(ctx, piece.span);
    piece_free(ctx, &piece);
    return text;
}

static JSValue host_register(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    if (!JS_IsFunction(ctx, argv[0])) return JS_ThrowTypeError(ctx, "transform wants a function");
    JS_FreeValue(ctx, engine.transform);
    engine.transform = JS_DupValue(ctx, argv[0]);
    return JS_UNDEFINED;
}

static const JSCFunctionListEntry host_members[] = {
    JS_CFUNC_DEF("log", 2, host_log_line),          JS_CFUNC_DEF("encode", 1, host_encode),
    JS_CFUNC_DEF("decode", 1, host_decode),         JS_CFUNC_DEF("env", 0, host_environment),
    JS_CFUNC_MAGIC_DEF("inputs", 0, host_names, 0), JS_CFUNC_MAGIC_DEF("outputs", 0, host_names, 1),
    JS_CFUNC_DEF("register", 1, host_register),
};

// host_init fills the object that the prelude is given, and replaces Math.random.
int host_init(JSContext *ctx, JSValue host) {
    if (JS_SetPropertyFunctionList(ctx, host, host_members, sizeof host_members / sizeof host_members[0])) return -1;
    JSValue global = JS_GetGlobalObject(ctx), math = JS_GetPropertyStr(ctx, global, "Math");
    int failed = JS_DefinePropertyValueStr(ctx, math, "random", JS_NewCFunction(ctx, random_next, "random", 0),
                                           JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) < 0;
    JS_FreeValue(ctx, math);
    JS_FreeValue(ctx, global);
    return failed;
}
